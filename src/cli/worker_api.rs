//! The verbs that only a worker has: `ask`, `inbox`, `report`, `spend` and `done`. They talk to its supervisor.

use std::path::PathBuf;

use anyhow::Result;

use super::{App, Fault};
use crate::rules::worker::protocol::{ReportedSpend, WireRequest, WorkerQuestion};
use crate::worker::client;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  answer=$(looop ask 'Which branch?' --options main,next)")]
pub struct AskArgs {
    /// The question.
    text: String,
    /// The answers to choose from, separated by commas.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    options: Vec<String>,
    /// The topic of the question: a link, a path, a name.
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop report findings.md < findings.md")]
pub struct ReportArgs {
    /// The name of the file. Its content comes from stdin.
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop spend --usd 0.042 --model sonnet")]
pub struct SpendArgs {
    /// The cost in US dollars.
    #[arg(long, default_value_t = 0.0, value_name = "USD")]
    usd: f64,
    /// Input tokens that no cache served.
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens_in: u64,
    /// Input tokens read from a cache.
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens_cached: u64,
    /// Input tokens written to a cache.
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens_written: u64,
    /// Output tokens.
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens_out: u64,
    /// The model.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct HookStatusArgs {
    /// The status: `working`, `blocked`, `done` or `error`.
    state: String,
}

/// The longest hook event that is read, in bytes.
const MAX_EVENT: u64 = 1 << 20;

/// Passes a hook event from stdin to the supervisor. Outside of a worker it does nothing, because the user may
/// use the same agent settings.
pub fn hook_status(app: &App, args: &HookStatusArgs) -> Result<u8> {
    let Some(socket) = app.inside_worker() else { return Ok(0) };
    let mut event = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin().lock(), MAX_EVENT), &mut event)?;
    let text = words_of(&serde_json::from_slice(&event).unwrap_or_default());
    client::call(&socket, WireRequest::HookStatus { state: args.state.clone(), text }).map(|_| 0)
}

/// The content of a hook event in words: the message, else the tool and its argument.
fn words_of(event: &serde_json::Value) -> Option<String> {
    let about = |input: &serde_json::Value| {
        let about = ["command", "question", "file_path", "url"].iter().find_map(|key| input[*key].as_str());
        about.map_or_else(|| input.to_string(), str::to_owned)
    };
    let stated = |key: &str| event[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let tool = event["tool_name"].as_str().map(|tool| format!("{tool}: {}", about(&event["tool_input"])));
    let last = ["last_assistant_message", "message"].iter().find_map(|key| stated(key));
    last.or(tool)
}

fn socket(app: &App, verb: &str) -> Result<PathBuf> {
    let what = format!("could not {verb}: this works only inside a worker, and LOOOP_SOCKET is not set");
    let fault = Fault::usage(what).hint("the brief of a worker explains its use");
    Ok(app.inside_worker().ok_or(fault)?)
}

/// Asks the user a question, waits, and prints only the answer.
pub fn ask(app: &App, args: &AskArgs) -> Result<u8> {
    let socket = socket(app, "ask")?;
    let (text, options) = (args.text.clone(), args.options.clone());
    let question = WorkerQuestion { text, options, reference: args.reference.clone() };
    app.shown(None, &client::ask(&socket, question)?)
}

/// Prints the messages that arrived since the last call.
pub fn inbox(app: &App) -> Result<u8> {
    let text = client::call(&socket(app, "read the messages")?, WireRequest::Inbox)?;
    app.shown(None, &text)
}

/// Hands in a file from stdin and prints its path in the data dir.
pub fn report(app: &App, args: &ReportArgs) -> Result<u8> {
    let socket = socket(app, "report")?;
    app.done(&args.name, &client::report(&socket, &args.name, &mut std::io::stdin().lock())?)
}

/// Reports what the worker has spent.
pub fn spend(app: &App, args: &SpendArgs) -> Result<u8> {
    if !(0.0..=1e6).contains(&args.usd) {
        let what = format!("could not take {} as dollars: expected 0 to 1000000", args.usd);
        return Err(Fault::usage(what).into());
    }
    let request = WireRequest::Spend(ReportedSpend {
        cost_micros: (args.usd * 1e6).round() as u64,
        tokens_in: args.tokens_in,
        tokens_cached: args.tokens_cached,
        tokens_written: args.tokens_written,
        tokens_out: args.tokens_out,
        model: args.model.clone(),
        basis: None,
    });
    client::call(&socket(app, "report the cost")?, request)?;
    app.outcome(None, true, "")
}

/// Declares the work done: the supervisor ends the worker's program, and this process with it, and then runs
/// the checks.
pub fn done(app: &App) -> Result<u8> {
    client::call(&socket(app, "end the work")?, WireRequest::Done)?;
    app.outcome(None, true, "")
}
