//! Calls an agent once: the wrapper program of a leanfile, one of looop's own runners, or a model endpoint. The
//! first two edit files themselves; the module `hands` applies the edits in an endpoint's answer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::bench::{Bench, SandboxStart};
use super::ctx::Busy;
use super::leanfile::Lean;
use super::{Endpoints, endpoint};
use crate::agents::{self, http::Http, stream::EventStream};
use crate::model::charge::{CostSource, Usage};
use crate::model::fault::Fault;
use crate::model::sandbox::Endpoint;
use crate::model::settings::{Fixes, Settings};
use crate::model::transcript::{self, CommandRun, LoopSignal};
use crate::store::file;
use crate::sys::proc::{self, Input, Job, OutputLimit, ProcessExit};
use crate::sys::signal::Cancel;
use crate::sys::{program, tree};

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
    timeout_ms: i64,
}

/// The way to call an agent.
#[derive(Clone, Debug)]
enum Way {
    /// A process that gets the prompt as the argument of `-p`, on stdin, or as a file. `write` is what it may
    /// write in its sandbox.
    Process {
        program: PathBuf,
        args: Vec<String>,
        env: Vec<(String, String)>,
        write: Vec<PathBuf>,
        wrapper: bool,
    },
    /// A model without tools, with the key from the leanfile.
    Endpoint { http: Box<Http>, key: Option<String> },
}

/// The reply of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentReply {
    /// Its words; or why there are none.
    pub text: Result<String, String>,
    /// The usage of all calls that were needed.
    pub usage: Usage,
    /// The duration in milliseconds.
    pub took_ms: i64,
    /// The command that it repeated without progress, if it did.
    pub looped: Option<String>,
}

/// The context of a call.
pub struct AgentCaller<'a> {
    /// The environment and the PATH.
    pub settings: &'a Settings,
    /// Interruption by the user.
    pub cancel: &'a Cancel,
    /// The variable that marks all processes of the fix.
    pub mark: (String, String),
    /// The path of the prompt file.
    pub prompt_file: PathBuf,
    /// The builder of its sandbox.
    pub bench: Bench<'a>,
    /// An empty directory.
    pub empty_dir: PathBuf,
    /// The receiver of progress reports.
    pub busy: Option<&'a dyn Busy>,
}

impl AgentReply {
    /// Tokens in and out.
    pub fn tokens(&self) -> u64 {
        self.usage.tokens()
    }

    /// True if the tokens are estimated from bytes, or unknown.
    pub fn is_estimated(&self) -> bool {
        self.usage.basis >= CostSource::Estimated
    }
}

/// Finds the agents in the order of their use: the wrapper or endpoint of the leanfile, else the config's
/// runner, and then those of `escalate`.
///
/// # Errors
/// A usage error if no agent is named, or if a program is missing.
pub fn chain(
    lean: &Lean,
    near: &Path,
    chosen: Option<&str>,
    settings: &Settings,
    endpoints: &Endpoints,
) -> Result<Vec<Fixer>> {
    let fixes = &settings.fixes;
    let mut names: Vec<&str> = Vec::new();
    let mut agents = Vec::new();
    match (&lean.binary, chosen) {
        (_, Some(name)) => names.push(name),
        (Some(binary), None) => match fixes.runners.get(binary) {
            Some(_) => names.push(binary),
            None => agents.push(wrapper(lean, binary, near, settings)?),
        },
        (None, None) => match endpoint::of(lean)? {
            Some((http, key)) => agents.push(Fixer {
                name: http.name.clone(),
                way: Way::Endpoint { http: Box::new(http), key },
                timeout_ms: i64::from(lean.timeout) * 1000,
            }),
            None => names.extend(fixes.runner.as_deref()),
        },
    }
    let first = names.first().copied();
    names.extend(fixes.escalate.iter().map(String::as_str).filter(|name| first != Some(*name)));
    for name in names {
        agents.push(match endpoints.get(name) {
            Some(http) => Fixer {
                name: name.to_owned(),
                way: Way::Endpoint { http: Box::new(http.clone()), key: None },
                timeout_ms: i64::from(lean.timeout) * 1000,
            },
            None => runner(name, lean, fixes, settings)?,
        });
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

fn wrapper(lean: &Lean, binary: &str, near: &Path, settings: &Settings) -> Result<Fixer> {
    let beside = near.join(binary);
    let found = program::find_program(&beside.to_string_lossy(), &settings.path, near);
    let path = path_of(settings);
    let program = found.or_else(|| program::find_program(binary, &path, near)).ok_or_else(|| {
        let fault =
            Fault::usage(format!("could not find the agent `{binary}`: it is not an executable file"));
        fault.hint(format!("searched in `{}` and on the PATH", near.display()))
    })?;
    let named = [
        ("LEAN_BASE_URL", &lean.base_url),
        ("LEAN_API_KEY", &lean.api_key),
        ("LEAN_MODEL", &lean.model),
        ("LEAN_APPROVAL_MODE", &lean.approval_mode),
        ("LEAN_AUTH_TYPE", &lean.auth_type),
    ];
    let mut env = caller_env(settings);
    if lean.base_url.is_some() || lean.api_key.is_some() {
        // An address and a key belong together: mixing two sources would send the key to a foreign address.
        env.retain(|(key, _)| !matches!(key.as_str(), "LEAN_BASE_URL" | "LEAN_API_KEY"));
    }
    env.extend(named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))));
    Ok(Fixer {
        name: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        way: Way::Process { program, args: vec!["-p".to_owned()], env, write: Vec::new(), wrapper: true },
        timeout_ms: i64::from(lean.timeout) * 1000,
    })
}

fn runner(name: &str, lean: &Lean, fixes: &Fixes, settings: &Settings) -> Result<Fixer> {
    let Some(table) = fixes.runners.get(name) else {
        let known: Vec<&str> = fixes.runners.keys().map(String::as_str).collect();
        let fault = Fault::usage(format!("could not find the runner {name:?}"));
        return Err(fault.hint(format!("runners that can fix: {}", known.join(", "))).into());
    };
    if let Err(why) = table.check_key(name) {
        return Err(Fault::usage(format!("could not call the runner {name}: {why}")).into());
    }
    let (first, args) =
        table.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let program = program::find_program(first, &settings.path, Path::new("/")).ok_or_else(|| {
        let fault = Fault::usage(format!(
            "could not call the runner {name}: `{first}` is not on the configured PATH"
        ));
        fault.hint("install it, or choose another with `looop fix --set-leaner NAME`")
    })?;
    let mut env = settings.base_env.clone();
    env.extend(settings.full_env.iter().filter(|(key, _)| table.env.contains(key)).cloned());
    env.extend(table.set.iter().cloned());
    Ok(Fixer {
        name: name.to_owned(),
        way: Way::Process { program, args: args.to_vec(), env, write: table.write.clone(), wrapper: false },
        timeout_ms: i64::from(lean.timeout) * 1000,
    })
}

/// The caller's environment, for the user's own programs: the wrapper and the tests. Git variables are removed,
/// because they would point git to the caller's repository; looop's variables are removed, because a worker's
/// socket is only for the worker.
pub fn caller_env(settings: &Settings) -> Vec<(String, String)> {
    let own = |key: &str| !key.starts_with("GIT_") && !key.starts_with("LOOOP_");
    settings.full_env.iter().filter(|(key, _)| own(key)).cloned().collect()
}

/// The PATH of the caller.
pub fn path_of(settings: &Settings) -> String {
    let own = settings.full_env.iter().find(|(key, _)| key == "PATH").map(|(_, path)| path.clone());
    own.unwrap_or_else(|| settings.path.clone())
}

impl Fixer {
    /// True for a model that edits nothing by itself.
    pub fn is_endpoint(&self) -> bool {
        matches!(self.way, Way::Endpoint { .. })
    }

    /// The longest possible prompt, in bytes.
    pub fn max_prompt_bytes(&self) -> usize {
        match self.way {
            Way::Process { wrapper: true, .. } => MAX_ARGUMENT_BYTES,
            _ => usize::MAX,
        }
    }

    /// Calls the agent in a directory until it answers; an empty answer causes another call.
    ///
    /// # Errors
    /// When the prompt cannot be written, or a process cannot be waited for. A failure of the agent is part of the reply.
    pub fn call(&self, caller: &AgentCaller, prompt: &str, cwd: &Path) -> Result<AgentReply> {
        file::write(&caller.prompt_file, prompt.as_bytes(), 0o600, file::Durability::Whole)?;
        let mut reply: Option<AgentReply> = None;
        for _ in 0..=EMPTY_RETRIES {
            let mut once = match &self.way {
                Way::Process { .. } => self.process(caller, prompt, cwd)?,
                Way::Endpoint { http, key } => {
                    endpoint::ask(http, key.as_deref(), caller, prompt, self.timeout_ms)?
                }
            };
            if let Some(before) = &reply {
                once.usage = before.usage.plus(&once.usage);
                once.took_ms = once.took_ms.saturating_add(before.took_ms);
            }
            let is_empty = matches!(&once.text, Ok(text) if text.trim().is_empty());
            if caller.cancel.is_set() || !is_empty {
                return Ok(once);
            }
            once.text = Err(format!("it printed nothing, {} times", EMPTY_RETRIES + 1));
            reply = Some(once);
        }
        reply.context("could not call an agent")
    }

    fn process(&self, caller: &AgentCaller, prompt: &str, cwd: &Path) -> Result<AgentReply> {
        let Way::Process { program, args, env, write, wrapper } = &self.way else {
            anyhow::bail!("could not start {}: it is not a program", self.name);
        };
        let (mut args, mut env) = (args.clone(), env.clone());
        let mut input = Input::Null;
        if *wrapper {
            args.push(prompt.to_owned());
        } else {
            let path = caller.prompt_file.to_string_lossy().into_owned();
            let named = args.iter().any(|arg| arg.contains("{brief}"));
            args.iter_mut().for_each(|arg| *arg = arg.replace("{brief}", &path));
            if !named {
                let file =
                    std::fs::File::open(&caller.prompt_file).context("could not open the prompt's file")?;
                input = Input::File(file);
            }
        }
        env.push(caller.mark.clone());
        let read: &[PathBuf] = if *wrapper { &[] } else { std::slice::from_ref(&caller.prompt_file) };
        let notified = env.iter().find(|(key, _)| key == "LEAN_BASE_URL");
        let endpoint = notified.and_then(|(_, url)| Endpoint::of_url(url));
        let start = SandboxStart { name: &self.name, program, cwd, endpoint, read, write };
        let cell = caller.bench.agent(&start)?;
        env.extend(cell.env);
        agents::fill_sandbox(&mut args, cell.sandbox.is_some());
        let argv: Vec<String> = [program.to_string_lossy().into_owned()].into_iter().chain(args).collect();
        let stream = EventStream::of_work(agents::events_of(&argv));
        let mut watched = Watched::new(stream, cwd, &caller.settings.fixes);
        let job = Job {
            program: program.clone(),
            args: argv[1..].to_vec(),
            env,
            cwd: cwd.to_owned(),
            input,
            keep: OutputLimit::All(MAX_OUTPUT_BYTES),
            sink: Some(Box::new(|bytes| watched.take(bytes))),
            timeout_ms: self.timeout_ms,
            gate: None,
            sandbox: cell.sandbox,
        };
        let mut tell = || caller.busy.iter().for_each(|who| who.busy());
        let ended = proc::run_one(job, caller.cancel, caller.busy.is_some().then_some(&mut tell));
        tree::reap_orphans(&tree::Known::new());
        let ended = ended.with_context(|| format!("could not wait for `{}`", self.name))?;
        let looped = watched.looped();
        let (text, usage) = watched.stream.finish();
        let words = || agents::last_words(&ended.stderr);
        let text = match (&ended.exit, text) {
            // It was ended because it repeated itself: its work until then counts.
            (ProcessExit::TooMuch, text) if watched.worst == LoopSignal::Stop => {
                Ok(text.unwrap_or_default() + "\n(looop ended the call)")
            }
            (ProcessExit::Code(0), text) => text,
            (ProcessExit::Timeout, _) => {
                Err(format!("it was still running after {}s", self.timeout_ms / 1000))
            }
            (exit, _) => Err(format!("it ended with {}: {}", exit.words(), words())),
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

impl<'a> Watched<'a> {
    fn new(stream: EventStream, cwd: &'a Path, fixes: &'a Fixes) -> Watched<'a> {
        Watched { stream, steps: Vec::new(), worst: LoopSignal::Fine, cwd, fixes }
    }

    /// False if the agent repeats itself.
    fn take(&mut self, bytes: &[u8]) -> bool {
        // An agent that works may print as much as it likes.
        self.stream.feed(bytes).ok();
        let calls = self.stream.take_calls();
        self.steps.extend(calls.into_iter().map(|call| CommandRun {
            command: call.command,
            output: call.output,
            tree: stamp(self.cwd),
        }));
        match transcript::judge(&self.steps, self.fixes.nudge, self.fixes.stop) {
            LoopSignal::Stop => self.worst = LoopSignal::Stop,
            LoopSignal::Warn if self.worst == LoopSignal::Fine => self.worst = LoopSignal::Warn,
            _ => {}
        }
        self.worst != LoopSignal::Stop
    }

    fn looped(&self) -> Option<String> {
        let command = self.steps.last().map(|step| crate::model::json::clip(&step.command, 120));
        command.filter(|_| self.worst != LoopSignal::Fine)
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
