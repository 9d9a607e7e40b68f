//! Calls an agent once: the wrapper program of a leanfile, one of looop's own runners, or a model endpoint. The
//! first two edit files themselves; the module `edits` applies the edits in an endpoint's answer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ctx::{AgentReply, FixContext, SandboxStart, caller_env, caller_path};
use super::leanfile::AgentConfig;
use super::{FixDeps, FixRequest, endpoint};
use crate::agents::{self, http::Http, stream::EventStream};
use crate::os::process::{Job, OutputLimit, ProcessCommand, ProcessExit, Stream};
use crate::os::program;
use crate::rules::beat::settings::{Fixes, Settings};
use crate::rules::cost::charge::Usage;
use crate::rules::fault::Fault;
use crate::rules::fix::transcript::{self, CommandRun, LoopSignal};
use crate::rules::json::clip;
use crate::rules::sandbox::{Endpoint, SandboxSubject};
use crate::store::file;

/// How often an agent that prints nothing is called again.
const EMPTY_RETRIES: usize = 5;
/// The most output of an agent in one call, in bytes.
const MAX_OUTPUT_BYTES: usize = 16 << 20;
/// The longest prompt that is passed as one argument, in bytes: the kernel's limit is 128 KiB.
const MAX_ARGUMENT_BYTES: usize = 120_000;
/// How many files are checked for changes.
const MAX_STAMPED: usize = 5000;

/// An agent that can be called.
#[derive(Clone, Debug)]
pub struct Fixer {
    /// Its name in progress, ledger and costs.
    pub name: String,
    way: Way,
}

/// The way to call an agent.
#[derive(Clone, Debug)]
enum Way {
    Process(AgentProgram),
    /// A model without tools, with the key from the leanfile.
    Endpoint {
        http: Box<Http>,
        key: Option<String>,
    },
}

/// An agent that is a program.
#[derive(Clone, Debug)]
struct AgentProgram {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// What it may write in its sandbox.
    write: Vec<PathBuf>,
    /// True for the program of a leanfile, which gets the prompt as its last argument. Others get it on stdin or as a
    /// file.
    is_wrapper: bool,
}

/// Finds the agents in the order of their use: the wrapper or endpoint of the leanfile, else the config's
/// runner, and then those of `escalate`.
///
/// # Errors
/// A usage error if no agent is named, or if a program is missing.
pub(super) fn chain(request: &FixRequest, deps: &FixDeps) -> Result<Vec<Fixer>> {
    let (lean, fixes) = (&request.leanfile.lean, &deps.settings.fixes);
    let mut names: Vec<&str> = Vec::new();
    let mut agents = Vec::new();
    match (&lean.binary, &request.leaner) {
        (_, Some(name)) => names.push(name),
        (Some(binary), None) if fixes.runners.contains_key(binary) => names.push(binary),
        (Some(binary), None) => agents.push(wrapper(lean, binary, &request.near, deps.settings)?),
        (None, None) => match endpoint::of(lean)? {
            Some((http, key)) => {
                let name = http.name.clone();
                agents.push(Fixer { name, way: Way::Endpoint { http: Box::new(http), key } });
            }
            None => names.extend(fixes.runner.as_deref()),
        },
    }
    let first = names.first().copied();
    names.extend(fixes.escalate.iter().map(String::as_str).filter(|name| first != Some(*name)));
    for name in names {
        let way = match deps.endpoints.get(name) {
            Some(http) => Way::Endpoint { http: Box::new(http.clone()), key: None },
            None => runner(name, deps.settings)?,
        };
        agents.push(Fixer { name: name.to_owned(), way });
    }
    if agents.is_empty() {
        let fault =
            Fault::usage("could not find an agent to call: neither the leanfile nor the config names one");
        return Err(fault
            .hint("set a program in `binary` of [lean], an endpoint in its `base_url` and `model`, or a runner with `looop fix --set-leaner NAME`")
            .hint("`looop fix --list-leaners` lists the available agents")
            .into());
    }
    Ok(agents)
}

fn wrapper(lean: &AgentConfig, binary: &str, near: &Path, settings: &Settings) -> Result<Fixer> {
    let path = caller_path(settings);
    let beside = program::find_program(&near.join(binary).to_string_lossy(), path, near);
    let path = beside.or_else(|| program::find_program(binary, path, near)).ok_or_else(|| {
        let fault =
            Fault::usage(format!("could not find the agent `{binary}`: it is not an executable file"));
        fault.hint(format!("searched in `{}` and on the PATH", near.display()))
    })?;
    let mut env = caller_env(settings);
    if lean.base_url.is_some() || lean.api_key.is_some() {
        // An address and a key belong together: mixing two sources would send the key to a foreign address.
        env.retain(|(key, _)| !matches!(key.as_str(), "LEAN_BASE_URL" | "LEAN_API_KEY"));
    }
    let values = lean.values().into_iter();
    env.extend(
        values.filter_map(|(key, value)| Some((format!("LEAN_{}", key.to_uppercase()), value.clone()?))),
    );
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args = vec!["-p".to_owned()];
    let program = AgentProgram { path, args, env, write: Vec::new(), is_wrapper: true };
    Ok(Fixer { name, way: Way::Process(program) })
}

fn runner(name: &str, settings: &Settings) -> Result<Way> {
    let runners = &settings.fixes.runners;
    let Some(table) = runners.get(name) else {
        let known: Vec<&str> = runners.keys().map(String::as_str).collect();
        let fault = Fault::usage(format!("could not find the runner {name:?}"));
        return Err(fault.hint(format!("runners that can fix: {}", known.join(", "))).into());
    };
    let failed = |why| Fault::usage(format!("could not call the runner {name}: {why}"));
    table.check_key(name).map_err(failed)?;
    let (first, args) =
        table.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let path = program::find_program(first, &settings.path, Path::new("/")).ok_or_else(|| {
        let fault = failed(format!("`{first}` is not on the configured PATH"));
        fault.hint("install it, or choose another with `looop fix --set-leaner NAME`")
    })?;
    let mut env = settings.base_env.clone();
    env.extend(settings.full_env.iter().filter(|(key, _)| table.env.contains(key)).cloned());
    env.extend(table.set.iter().cloned());
    let (args, write) = (args.to_vec(), table.write.clone());
    Ok(Way::Process(AgentProgram { path, args, env, write, is_wrapper: false }))
}

impl Fixer {
    /// True for a model that edits nothing by itself.
    pub fn is_endpoint(&self) -> bool {
        matches!(self.way, Way::Endpoint { .. })
    }

    /// The longest possible prompt, in bytes.
    pub fn max_prompt_bytes(&self) -> usize {
        match &self.way {
            Way::Process(program) if program.is_wrapper => MAX_ARGUMENT_BYTES,
            _ => usize::MAX,
        }
    }

    /// Calls the agent in a directory until it answers; an empty answer causes another call.
    ///
    /// # Errors
    /// When the prompt cannot be written, or a process cannot be waited for. A failure of the agent is part of the reply.
    pub fn call(&self, ctx: &FixContext, prompt: &str, cwd: &Path) -> Result<AgentReply> {
        file::write(&ctx.dir.prompt(), prompt.as_bytes(), 0o600, file::Durability::Atomic)?;
        let mut reply = self.call_once(ctx, prompt, cwd)?;
        for tries in 1.. {
            let is_empty = matches!(&reply.text, Ok(text) if text.trim().is_empty());
            if ctx.deps.cancel.is_set() || !is_empty {
                break;
            }
            if tries > EMPTY_RETRIES {
                reply.text = Err(format!("it printed nothing, {tries} times"));
                break;
            }
            let before = std::mem::replace(&mut reply, self.call_once(ctx, prompt, cwd)?);
            reply.usage = before.usage.plus(&reply.usage);
            reply.took_ms = reply.took_ms.saturating_add(before.took_ms);
        }
        Ok(reply)
    }

    fn call_once(&self, ctx: &FixContext, prompt: &str, cwd: &Path) -> Result<AgentReply> {
        let timeout_ms = i64::from(ctx.request.leanfile.lean.timeout) * 1000;
        let AgentProgram { path: program, mut args, env: vars, write, is_wrapper } = match &self.way {
            Way::Process(program) => program.clone(),
            Way::Endpoint { http, key } => {
                return endpoint::ask(http, key.as_deref(), ctx, prompt.len(), timeout_ms);
            }
        };
        let prompt_file = ctx.dir.prompt();
        let mut stdin = Stream::Null;
        if is_wrapper {
            args.push(prompt.to_owned());
        } else {
            let path = prompt_file.to_string_lossy();
            if !args.iter().any(|arg| arg.contains("{brief}")) {
                let file = std::fs::File::open(&prompt_file).context("could not open the prompt's file")?;
                stdin = file.into();
            }
            args.iter_mut().for_each(|arg| *arg = arg.replace("{brief}", &path));
        }
        let read: &[PathBuf] = if is_wrapper { &[] } else { &[prompt_file] };
        let base_url = vars.iter().find(|(key, _)| key == "LEAN_BASE_URL");
        let endpoint = base_url.and_then(|(_, url)| Endpoint::of_url(url));
        let start = SandboxStart { name: &self.name, program: &program, cwd, endpoint, read, write: &write };
        let sandboxed = ctx.sandboxed(SandboxSubject::Worker, &start)?;
        agents::fill_sandbox(&mut args, sandboxed.sandbox.is_some());
        let argv = [&[program.to_string_lossy().into_owned()], args.as_slice()].concat();
        let stream = EventStream::of_work(agents::events_of(&argv));
        let (steps, worst) = (Vec::new(), LoopSignal::default());
        let mut watched = Watched { stream, steps, worst, cwd, fixes: &ctx.deps.settings.fixes };
        let command = ProcessCommand { stdin, ..ProcessCommand::new(program, args, vars, cwd) };
        let job = Job {
            sink: Some(Box::new(|bytes| watched.take(bytes))),
            ..Job::new(command, OutputLimit::All(MAX_OUTPUT_BYTES), timeout_ms)
        };
        let ended = ctx.run(&self.name, sandboxed, job)?;
        let last = watched.steps.last().filter(|_| watched.worst != LoopSignal::Fine);
        let looped = last.map(|step| clip(&step.command, 120));
        let (text, usage) = watched.stream.finish();
        let text = match (&ended.exit, text) {
            // It was ended because it repeated itself: its work until then counts.
            (ProcessExit::TooMuch, text) if watched.worst == LoopSignal::Stop => {
                Ok(text.unwrap_or_default() + "\n(looop ended the call)")
            }
            (ProcessExit::Code(0), text) => text,
            (ProcessExit::Timeout, _) => Err(format!("it was still running after {}s", timeout_ms / 1000)),
            (exit, _) => {
                let (_, words) = agents::failure_words(&ended.stderr);
                Err(format!("it ended with {exit}: {words}"))
            }
        };
        let usage = usage.unwrap_or_else(|| Usage::estimate(prompt.len(), ended.stdout.len()));
        Ok(AgentReply { text, usage, took_ms: ended.took_ms, looped })
    }
}

/// The output of an agent while it works, and the commands in it.
struct Watched<'a> {
    stream: EventStream,
    steps: Vec<CommandRun>,
    worst: LoopSignal,
    cwd: &'a Path,
    fixes: &'a Fixes,
}

impl Watched<'_> {
    /// False if the agent repeats itself.
    fn take(&mut self, bytes: &[u8]) -> bool {
        // An agent that works may print as much as it likes.
        self.stream.feed(bytes);
        let calls = self.stream.take_calls();
        self.steps.extend(calls.into_iter().map(|call| CommandRun {
            command: call.command,
            output: call.output,
            tree: stamp(self.cwd),
        }));
        let signal = transcript::judge(&self.steps, self.fixes.warn, self.fixes.stop);
        self.worst = self.worst.max(signal);
        self.worst != LoopSignal::Stop
    }
}

/// A fingerprint of a directory: names, sizes and change times of its first files.
fn stamp(dir: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let mut hasher = blake3::Hasher::new();
    let (mut dirs, mut left) = (vec![dir.to_owned()], MAX_STAMPED);
    while let Some(dir) = dirs.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&dir).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries.into_iter().filter(|entry| entry.file_name() != ".git") {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                dirs.push(entry.path());
            }
            let text = format!("{:?} {} {} {}", entry.path(), meta.len(), meta.ctime(), meta.ctime_nsec());
            hasher.update(text.as_bytes());
            left = left.saturating_sub(1);
            if left == 0 {
                return hasher.finalize().to_hex().to_string();
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}
