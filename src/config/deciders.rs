//! The deciding runners of the config: a command of the user, an endpoint, or an agent CLI.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::form::{ConfigFile, PriceForm, RunnerFile};
use super::workers::names_no_program;
use super::{Config, NO_TIME, Problem};
use crate::agents::command::Command;
use crate::agents::decider::AgentRunner;
use crate::agents::http::{Http, IDLE_MS, Protocol};
use crate::agents::token::{KeyedRunner, TokenSource};
use crate::agents::{self, AGENTS, Runner};
use crate::rules::beat::settings::Settings;
use crate::rules::cost::price::Price;
use crate::rules::fault::Fault;
use crate::rules::text::nearest;

/// The default variable that passes the key of `token_cmd` to a call of an endpoint.
const TOKEN_VAR: &str = "COMMAND_TOKEN";

impl Config {
    /// The runner that decides.
    ///
    /// # Errors
    /// A usage error if the config names one that does not exist or cannot decide.
    pub fn decider(&self) -> Result<Box<dyn Runner>> {
        self.decider_named(&self.decide)
    }

    /// The runner of this name, for decisions.
    ///
    /// # Errors
    /// Like [`Config::decider`].
    pub fn decider_named(&self, name: &str) -> Result<Box<dyn Runner>> {
        let built = self.build(name).map_err(|problem| problem.fault(&self.path))?;
        Ok(built.ok_or_else(|| self.no_decider(name))?)
    }

    /// Builds the runner of this name; `None` if there is no such runner that decides.
    fn build(&self, name: &str) -> Result<Option<Box<dyn Runner>>, Problem> {
        let none = RunnerFile::default();
        let entry = self.runners.get(name).unwrap_or(&none);
        if let Some(argv) = &entry.decide {
            return self.keyed(name, entry, self.command(name, argv, entry)?).map(Some);
        }
        if let Some(protocol) = entry.http {
            return Ok(Some(Box::new(self.http(name, protocol, entry)?)));
        }
        let price = self.price(name, entry.price)?;
        let Some(agent) = agents::find(name) else { return Ok(None) };
        let (Ok(mode), Some(events)) = (&agent.decide, agent.events) else { return Ok(None) };
        let runner = AgentRunner {
            agent,
            mode,
            events,
            model: entry.model.clone(),
            effort: entry.effort.clone(),
            env: self.allowed(entry),
            args: entry.args.clone(),
            write: entry.write.clone(),
            price,
        };
        self.keyed(name, entry, Box::new(runner)).map(Some)
    }

    /// Says why a runner cannot decide, and which can.
    fn no_decider(&self, name: &str) -> Fault {
        let known = self.decider_names();
        let unfit = |why: &str| Fault::usage(format!("could not use the runner `{name}` to decide: {why}"));
        let fault = match (agents::find(name), self.runners.get(name)) {
            (Some(agent), _) => {
                let why = agent.decide.as_ref().err().copied().unwrap_or("its events are not known");
                unfit(why).hint(format!("`{name}` can {}", agent.modes()))
            }
            (None, Some(_)) => unfit("it has no `decide` command and no `http`"),
            (None, None) => Fault::usage(format!("could not find the runner `{name}`")),
        };
        let fault = match nearest(name, known.iter().filter(|known| *known != name), 0.8) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault,
        };
        let entry = format!("{{\"runners\":{{\"{name}\":{{\"decide\":[\"program\",\"argument\"]}}}}}}");
        fault
            .hint(format!("known runners: {}", known.join(", ")))
            .hint(format!("add {entry} to {}", self.path.display()))
    }

    /// Finds runners that could not be called, and names of runners that do not exist.
    pub(super) fn check_runners(&self, file: &ConfigFile) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, entry) in &self.runners {
            let commands = [("decide", &entry.decide), ("worker", &entry.worker), ("fix", &entry.fix)];
            let has_command = commands.iter().any(|(_, argv)| argv.is_some()) || entry.http.is_some();
            for (key, argv) in commands.into_iter().chain([("token_cmd", &entry.token_cmd)]) {
                if argv.as_ref().is_some_and(|argv| names_no_program(argv)) {
                    problems.push(Problem::of(format!("runners.{name}.{key}"), "names no program"));
                }
            }
            // An entry with only an address says what a program of that name may reach.
            if !has_command && entry.base_url.is_none() && agents::find(name).is_none() {
                let why = "has nothing to run: set `decide`, `worker`, `fix` or `http`";
                let known = AGENTS.iter().map(|agent| agent.name);
                let near = nearest(name, known, 0.8).map(|near| format!("did you mean `{near}`?"));
                let problem = Problem::of(format!("runners.{name}"), why);
                problems.push(Problem { hints: near.into_iter().collect(), ..problem });
            }
            problems.extend(self.build(name).err());
        }
        if let Some(name) = file.decide.as_ref().filter(|name| matches!(self.build(name), Ok(None))) {
            let Fault { what, hints, .. } = self.no_decider(name);
            problems.push(Problem { hints, ..Problem::about("decide", &what) });
        }
        let mut refers = |key: &str, name: &str, to: &str, known: Vec<&String>| {
            if !known.iter().any(|known| *known == name) {
                let names = known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
                let problem = Problem::of(key, &format!("is {name:?}, which is no {to}"));
                let near = nearest(name, known, 0.8).map(|near| format!("did you mean `{near}`?"));
                let hints = near.into_iter().chain([format!("there are: {names}")]).collect();
                problems.push(Problem { hints, ..problem });
            }
        };
        let Settings { workers, fixes, .. } = &self.settings;
        if let Some(name) = &file.worker {
            refers("worker", name, "runner with a worker command", workers.runners.keys().collect());
        }
        if let Some(name) = &file.fix.runner {
            refers("fix.runner", name, "runner that can fix", fixes.runners.keys().collect());
        }
        for (nth, name) in file.fix.escalate.iter().enumerate() {
            let key = format!("fix.escalate[{nth}]");
            refers(&key, name, "runner that can fix", fixes.runners.keys().collect());
        }
        problems
    }

    /// The names of all runners that can decide: those of the config, then the built-in ones.
    pub fn decider_names(&self) -> Vec<String> {
        let own = self.runners.iter().filter(|(_, entry)| entry.decide.is_some() || entry.http.is_some());
        let mut names: Vec<String> = own.map(|(name, _)| name.clone()).collect();
        let built_in = agents::deciders().map(str::to_owned);
        names.extend(built_in.filter(|name| self.runners.get(name).is_none_or(|own| own.decide.is_none())));
        names
    }

    fn command(&self, name: &str, argv: &[String], entry: &RunnerFile) -> Result<Box<dyn Runner>, Problem> {
        let transient = entry.transient.as_deref().map(regex_lite::Regex::new).transpose();
        let transient =
            transient.map_err(|e| Problem::about(format!("runners.{name}.transient"), &e.to_string()))?;
        Ok(Box::new(Command {
            name: name.to_owned(),
            argv: argv.to_vec(),
            env: self.allowed(entry),
            write: entry.write.clone(),
            transient,
            cwd: self.folder(),
        }))
    }

    /// The directory of the config file; commands of the config run there.
    fn folder(&self) -> PathBuf {
        self.path.parent().filter(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
    }

    /// The names of variables that a runner's program gets.
    fn allowed(&self, entry: &RunnerFile) -> Vec<String> {
        let of_token = entry.token_cmd.as_ref().and(entry.key_env.as_ref());
        entry.env.iter().chain(of_token).cloned().collect()
    }

    /// Adds the key of `token_cmd` to a runner's program, if that is set.
    fn keyed(
        &self,
        name: &str,
        entry: &RunnerFile,
        runner: Box<dyn Runner>,
    ) -> Result<Box<dyn Runner>, Problem> {
        match self.token(name, entry, None)? {
            Some(source) => Ok(Box::new(KeyedRunner { runner, source })),
            None => Ok(runner),
        }
    }

    /// The source of a runner's key, if a command prints it. `var` is the default variable.
    fn token(
        &self,
        name: &str,
        entry: &RunnerFile,
        var: Option<&str>,
    ) -> Result<Option<TokenSource>, Problem> {
        let Some(argv) = &entry.token_cmd else { return Ok(None) };
        let Some(var) = entry.key_env.as_deref().or(var) else {
            let why = "needs `key_env`: the variable in which the program gets the key";
            return Err(Problem::of(format!("runners.{name}.token_cmd"), why));
        };
        Ok(Some(TokenSource { argv: argv.clone(), var: var.to_owned(), cwd: self.folder() }))
    }

    /// The endpoints that can fix: those without a program of their own.
    ///
    /// # Errors
    /// A usage error if a setting is missing or an address is invalid.
    pub fn endpoints(&self) -> Result<BTreeMap<String, Http>> {
        let mut all = BTreeMap::new();
        for (name, _) in self.settings.fixes.runners.iter().filter(|(_, runner)| runner.argv.is_empty()) {
            let runner = self.runners.get(name);
            if let Some((protocol, entry)) = runner.and_then(|entry| Some((entry.http?, entry))) {
                let http = self.http(name, protocol, entry).map_err(|problem| problem.fault(&self.path))?;
                all.insert(name.clone(), http);
            }
        }
        Ok(all)
    }

    fn http(&self, name: &str, protocol: Protocol, entry: &RunnerFile) -> Result<Http, Problem> {
        let own = |key: &str| format!("runners.{name}.{key}");
        let lacks = |key: &str| Problem::of(own("http"), &format!("needs a `{key}`"));
        let base_url = entry.base_url.as_ref().ok_or_else(|| lacks("base_url"))?;
        check_url(base_url).map_err(|why| Problem::of(own("base_url"), &format!("{base_url:?} {why}")))?;
        let model = entry.model.as_ref().ok_or_else(|| lacks("model"))?;
        if let Some(health) = entry.health.as_ref().filter(|health| !health.starts_with('/')) {
            check_url(health).map_err(|why| Problem::of(own("health"), &format!("{health:?} {why}")))?;
        }
        if entry.idle.is_some_and(|span| span.0 == 0) {
            return Err(Problem::of(own("idle"), NO_TIME));
        }
        Ok(Http {
            name: name.to_owned(),
            protocol,
            base_url: base_url.trim_end_matches('/').to_owned(),
            model: model.clone(),
            effort: entry.effort.clone(),
            key_env: entry.key_env.clone().or_else(|| entry.token_cmd.as_ref().map(|_| TOKEN_VAR.to_owned())),
            token: self.token(name, entry, Some(TOKEN_VAR))?,
            health: entry.health.clone(),
            shape: entry.shape,
            idle_ms: entry.idle.map_or(IDLE_MS, |span| span.0),
            price: self.price(name, entry.price)?,
        })
    }

    /// True if the config has prices for this runner.
    pub fn has_price(&self, name: &str) -> bool {
        self.runners.get(name).is_some_and(|entry| entry.price.is_some())
    }

    fn price(&self, name: &str, form: Option<PriceForm>) -> Result<Option<Price>, Problem> {
        let Some(form) = form else { return Ok(None) };
        let micros = |usd: f64, key: &str| match usd {
            _ if (0.0..=1e6).contains(&usd) => Ok((usd * 1e6).round() as u64),
            _ => {
                let why = format!("is {usd}; expected a price in US dollars from 0 to 1000000");
                Err(Problem::of(format!("runners.{name}.price.{key}"), &why))
            }
        };
        Ok(Some(Price {
            input: micros(form.input, "input")?,
            cached: micros(form.cached.unwrap_or(form.input), "cached")?,
            written: micros(form.written.unwrap_or(form.input), "written")?,
            output: micros(form.output, "output")?,
        }))
    }
}

/// Checks a base address: `http` or `https`, a host, optionally a port and a path. It must not contain a key.
fn check_url(url: &str) -> Result<(), String> {
    let (scheme, rest) =
        url.split_once("://").ok_or("is not an address: it does not begin with http:// or https://")?;
    if !matches!(scheme, "http" | "https") {
        return Err(format!("has the scheme {scheme:?}; expected http or https"));
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err("contains a user name or a key; set `key_env` to the variable of the key".to_owned());
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    let is_bad_port = port.is_some_and(|port| port.parse::<u16>().is_err());
    if host.is_empty() || host.starts_with(':') || !host.chars().all(is_plain) || is_bad_port {
        return Err("has no host".to_owned());
    }
    if rest.contains(['?', '#', ' ']) || rest.contains(char::is_control) {
        return Err("has more than a host and a path".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn valid_and_invalid_addresses_are_distinguished() {
        for good in ["http://127.0.0.1:8080/v1", "https://api.example.com", "http://[::1]:11434/v1"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://x/",
            "http://",
            "http://:80/",
            "https://key@host/v1",
            "http://host:99999/",
            "http://a b/",
            "http://host/v1?key=x",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
