//! `looop question`, `looop approval` and their short verbs: how the user answers the loop.

use anyhow::{Context, Result, bail};

use super::{App, Fault, Name, complete, human_ms, input, json_output, pick, policy, print, visible};
use crate::os::{clock, tty};
use crate::rules::beat::ask::{AnswerFile, AskKind, AskReply, OUTDATED, QuestionFile, QuestionState};
use crate::rules::beat::card;
use crate::rules::beat::decision::MAX_TEXT_BYTES;
use crate::store::{file, json_file, layout, lock, state_files, workers};
use crate::worker::client;

#[derive(Debug, clap::Subcommand)]
pub enum QuestionVerb {
    /// List the questions that wait for you.
    #[command(after_help = "Example:\n  looop question list")]
    List(AsksArgs),
    /// Show a question.
    #[command(after_help = "Example:\n  looop question show q-7f3a")]
    Show(AsksShowArgs),
    /// Answer a question.
    #[command(after_help = "Example:\n  looop question answer q-7f3a 'the release first'")]
    Answer(AnswerArgs),
}

#[derive(Debug, clap::Subcommand)]
pub enum ApprovalVerb {
    /// List the moves that wait for your approval.
    #[command(after_help = "Example:\n  looop approval list")]
    List(AsksArgs),
    /// Show a move and everything that an approval would cover.
    #[command(after_help = "Example:\n  looop approval show ap-5e23")]
    Show(AsksShowArgs),
    /// Approve one exact move.
    #[command(after_help = "Example:\n  looop approval approve ap-5e23")]
    Approve(ApproveArgs),
    /// Reject a move.
    #[command(
        after_help = "Example:\n  looop approval reject ap-5e23 'not before Friday'",
        visible_alias = "deny"
    )]
    Reject(RejectArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop asks\n  looop asks --all --json")]
pub struct AsksArgs {
    /// Show also closed asks that no beat has archived yet.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub struct AsksShowArgs {
    /// The id, or the unique beginning of it.
    #[arg(add = complete::ask_ids())]
    ask: String,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop answer q-7f3a 'the release first'\n  looop answer q-7f3a 2\n  looop answer fix-ci main\n  \
                  looop answer 2"
)]
pub struct AnswerArgs {
    /// The ask: its id, the unique beginning of it, or its worker; not needed if one question is open. Then the answer: a
    /// text, the number of an option, or `-` for stdin. Without an answer you are asked.
    #[arg(value_name = "ASK ANSWER", add = complete::ask_ids())]
    words: Vec<String>,
}

#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  looop approve ap-5e23\n  looop approve\n  looop approve --always ap-5e23"
)]
pub struct ApproveArgs {
    /// The ask, or the unique beginning of its id; not needed if one move waits.
    #[arg(add = complete::ask_ids())]
    ask: Option<String>,
    /// The hash that you saw; required without a terminal.
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
    /// Also add a rule to the config that frees exactly this command from now on. You see the rule first.
    #[arg(long)]
    always: bool,
    /// With --always: add the rule without a question; required without a terminal.
    #[arg(long, requires = "always")]
    yes: bool,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop reject ap-5e23 'not before Friday'\n  looop reject --all 'not today'"
)]
pub struct RejectArgs {
    /// The ask, or the unique beginning of its id; not needed with --all, or if one move waits. Then why not; the next
    /// decision reads it.
    #[arg(value_name = "ASK WHY", add = complete::ask_ids())]
    words: Vec<String>,
    /// Reject each open approval. On a terminal you are asked first.
    #[arg(long)]
    all: bool,
    /// With --all: do not ask.
    #[arg(long, requires = "all")]
    yes: bool,
}

/// Why a question cannot be answered if its worker has ended.
const STRANDED: &str = "the worker that asked has ended and cannot read an answer";

/// Lists the asks of one kind, or all, that wait for the user. The exit status is 0 with or without any.
pub fn list(app: &App, args: &AsksArgs, kind: Option<AskKind>) -> Result<u8> {
    let (asks, problems) = not_closed(app)?;
    let of_kind = asks.iter().filter(|(ask, _)| kind.is_none_or(|kind| ask.kind == kind));
    let shown = of_kind.filter(|(_, state)| args.all || *state == QuestionState::Open);
    if app.json {
        let key = kind.map_or("ask".to_owned(), |kind| kind.to_string());
        let rows: Vec<_> = shown.map(|(ask, state)| row(ask, *state)).collect();
        return print::answer(&format!("{key}s"), rows);
    }
    let texts: String = shown.map(|(ask, state)| text(app, ask, *state)).collect();
    match texts.is_empty() {
        true => print::line("nothing waits for you"),
        false => print::raw(texts.as_bytes()),
    }
    print::warn(&problems);
    Ok(0)
}

/// Shows one ask.
pub fn show(app: &App, args: &AsksShowArgs, kind: AskKind) -> Result<u8> {
    let (asks, _) = not_closed(app)?;
    let fits = asks.into_iter().filter(|(ask, _)| ask.kind == kind);
    let (ask, state) = pick("ask", &args.ask, fits, |(ask, _)| ask.id.as_str())?;
    if app.json {
        return print::answer(&kind.to_string(), row(&ask, state));
    }
    print::page(text(app, &ask, state))
}

/// An ask and its present state.
pub type AskNow = (QuestionFile, QuestionState);

/// The asks that no beat has used or archived, with their states, and files that cannot be read.
pub fn not_closed(app: &App) -> Result<(Vec<AskNow>, Vec<String>)> {
    let (asks, problems) = state_files::asks(&app.layout)?;
    let closed = state_files::peek_beat(&app.layout).map(|beat| beat.closed_asks).unwrap_or_default();
    let with_state = |(ask, answer): (QuestionFile, Option<AnswerFile>)| {
        let state = ask.state(answer.as_ref(), app.now);
        (ask, state)
    };
    let open = asks.into_values().filter(|(ask, _)| !closed.contains(&ask.id));
    Ok((open.map(with_state).collect(), problems))
}

/// The approvals that wait for the user.
fn open_approvals(app: &App) -> Result<Vec<QuestionFile>> {
    let mut asks = not_closed(app)?.0;
    asks.retain(|(ask, state)| ask.kind == AskKind::Approval && *state == QuestionState::Open);
    Ok(asks.into_iter().map(|(ask, _)| ask).collect())
}

/// The public form of an ask.
pub fn row(ask: &QuestionFile, state: QuestionState) -> json_output::QuestionJson {
    let approval = ask.approval.as_ref();
    let command = approval.and_then(|approval| approval.scope.command.as_ref());
    json_output::QuestionJson {
        id: ask.id.clone(),
        kind: ask.kind,
        worker: ask.worker.clone(),
        goal: ask.goal.clone(),
        text: ask.text.clone(),
        options: ask.options.clone(),
        reference: ask.reference.clone(),
        decided: approval.map(|approval| approval.decided.to_json()),
        argv: command.map(|command| command.argv.clone()).unwrap_or_default(),
        cwd: command.map(|command| command.cwd.clone()),
        because: approval.map(|approval| approval.because.clone()),
        scope: approval.map(|approval| approval.scope.clone()),
        diff: approval.map(|approval| approval.diff.clone()),
        hash: approval.map(|approval| approval.hash.clone()),
        created_ms: ask.created_ms,
        expires_ms: ask.expires_ms,
        state,
    }
}

/// An ask as text; an approval is shown in full.
pub fn text(app: &App, ask: &QuestionFile, state: QuestionState) -> String {
    let style = app.style;
    let age = human_ms(app.now.elapsed_ms(ask.created_ms));
    let state = match state {
        QuestionState::Open => String::new(),
        other => format!(" · {}", word(other)),
    };
    let goal = ask.goal.as_ref().map(|goal| format!(" · for {goal}")).unwrap_or_default();
    let kind = ask.kind;
    let who = match &ask.worker {
        Some(worker) => format!(" · from the worker {worker}"),
        None if !ask.clean && ask.approval.is_none() => " · written after untrusted text was read".to_owned(),
        None => String::new(),
    };
    let mut out = format!("{} {kind} · {age} old{goal}{who}{state}\n", style.bold(ask.id.as_str()));
    let columns = print::columns();
    let (rows, hint) = match &ask.approval {
        Some(approval) => {
            let hint = format!("  looop approve {0} | looop reject {0} WHY", ask.id);
            (card::approval(ask, approval, app.now), hint)
        }
        None => (card::question(ask), format!("  looop answer {} …", ask.id)),
    };
    for row in rows {
        for line in row.lines(columns) {
            out.push_str(&if row.strong { style.bold(&line) } else { line });
            out.push('\n');
        }
    }
    out.push_str(&style.dim(&hint));
    out.push_str("\n\n");
    out
}

/// Repeats the strongest rows of an approval if its card is longer than the terminal, because they scrolled away.
fn recap(app: &App, ask: &QuestionFile) -> String {
    let card = text(app, ask, QuestionState::Open);
    let rows = tty::size().map_or(usize::MAX, |(_, rows)| rows.into());
    if card.lines().count() < rows {
        return String::new();
    }
    let strong = ask.approval.iter().flat_map(|approval| card::approval(ask, approval, app.now));
    let lines = strong.filter(|row| row.strong).flat_map(|row| row.lines(print::columns())).take(rows / 2);
    lines.map(|line| format!("{}\n", app.style.bold(&line))).collect()
}

/// How the ids of asks begin. A word that looks like one is a name, even if it is mistyped.
const ID_STARTS: [&str; 3] = ["q-", "ap-", "ask-"];

/// Finds the open ask that the first of several words names, by its id or its worker, and returns the words that are left.
/// A single word that names none is left, and the ask is the only open one of this kind.
fn named<'a>(
    app: &App,
    words: &'a [String],
    kind: AskKind,
    verb: &str,
) -> Result<(QuestionFile, &'a [String])> {
    let (asks, _) = not_closed(app)?;
    let open = || asks.iter().filter(|(ask, state)| ask.kind == kind && *state == QuestionState::Open);
    if let Some((name, rest)) = words.split_first() {
        if let Some((ask, _)) =
            open().find(|(ask, _)| ask.worker.as_ref().is_some_and(|id| id.as_str() == name))
        {
            return Ok((ask.clone(), rest));
        }
        let begins = |id: &str| !name.is_empty() && id.starts_with(name.as_str());
        let is_id = asks.iter().any(|(ask, _)| begins(ask.id.as_str()));
        if is_id || !rest.is_empty() || ID_STARTS.iter().any(|start| name.starts_with(start)) {
            return Ok((find(app, name, kind, verb)?, rest));
        }
    }
    let open: Vec<&QuestionFile> = open().map(|(ask, _)| ask).collect();
    if let [one] = open.as_slice() {
        return Ok(((*one).clone(), words));
    }
    let ids = open.iter().map(|ask| ask.id.as_str()).collect::<Vec<_>>().join(", ");
    Err(match ids.is_empty() {
        true => Fault::usage(format!("could not {verb}: no open {kind} waits for you")),
        false => Fault::usage(format!("could not {verb}: {} are open", open.len()))
            .hint(format!("name one: {ids}")),
    }
    .into())
}

/// Finds the one open ask of a kind by its id.
fn find(app: &App, wanted: &str, kind: AskKind, verb: &str) -> Result<QuestionFile> {
    let (ask, state) = pick("ask", wanted, not_closed(app)?.0, |(ask, _)| ask.id.as_str())?;
    let id = &ask.id;
    if ask.kind != kind {
        let fault = Fault::usage(format!("could not {verb} {id}: it is not a {kind}"));
        return Err(match kind {
            AskKind::Question => fault.hint("use `looop approve` or `looop reject`"),
            AskKind::Approval => fault.hint("use `looop answer`"),
        }
        .into());
    }
    match state {
        QuestionState::Open => Ok(ask),
        QuestionState::Expired if ask.is_outdated() => bail!("could not {verb} {id}: {OUTDATED}"),
        QuestionState::Stranded => {
            let fault = Fault::failed(format!("could not {verb} {id}: {STRANDED}"));
            Err(fault.hint("`looop ls --all` shows how it ended").into())
        }
        state => bail!("could not {verb} {id}: it is {} already", word(state)),
    }
}

fn word(state: QuestionState) -> String {
    format!("{state:?}").to_lowercase()
}

/// Writes the answer, unless another answer was first. The user may have taken a long time, so this checks
/// again that the ask is open, with the current time and under the lock that a beat takes to archive it.
fn say(app: &App, ask: &QuestionFile, reply: AskReply) -> Result<()> {
    let verb = match reply {
        AskReply::Answer { .. } | AskReply::Expired | AskReply::Stranded => "answer",
        AskReply::Approve { .. } => "approve",
        AskReply::Reject { .. } => "reject",
    };
    let fail = |why: &str| bail!("could not {verb} {}: {why}", ask.id);
    let held = lock::store(&app.layout.store_lock())?;
    let now = clock::now();
    let there: Option<QuestionFile> = json_file::read_json(&app.layout.file(&layout::ask_path(&ask.id)))?;
    if there.as_ref() != Some(ask) || state_files::peek_beat(&app.layout)?.closed_asks.contains(&ask.id) {
        return fail("a beat has closed it in the meantime");
    }
    if ask.state(None, now) == QuestionState::Expired {
        return fail("it has expired");
    }
    if state_files::is_stranded(&app.layout, ask)? {
        return fail(STRANDED);
    }
    state_files::set_answer_aside(&app.layout, &ask.id, now)?;
    let answer = AnswerFile { ask: ask.id.clone(), at_ms: now.unix_ms, reply };
    let path = app.layout.asks().join(format!("{}.answer.json", ask.id));
    if !file::create(&path, json_file::json_text(&answer)?.as_bytes(), 0o600)? {
        return fail("it has an answer already");
    }
    drop(held);
    if let Some(worker) = &ask.worker {
        client::wake(&app.layout.worker(worker).attach_socket());
        if let Ok(Some(worker)) = workers::load(&app.layout, worker) {
            super::ls::note_if_stopped(&worker);
        }
    }
    Ok(())
}

pub fn answer(app: &App, args: &AnswerArgs) -> Result<u8> {
    let (ask, rest) = named(app, &args.words, AskKind::Question, "answer")?;
    let text_of = (!rest.is_empty()).then(|| rest.join(" "));
    let given = match text_of.as_deref() {
        None if print::stdin_is_tty() => {
            app.line(text(app, &ask, QuestionState::Open).trim_end());
            print::prompt("answer: ").unwrap_or_default()
        }
        None | Some("-") => input::stdin("the answer")?.trim_end().to_owned(),
        Some(text) => text.to_owned(),
    };
    let chosen = chosen(&ask, given)?;
    say(app, &ask, AskReply::Answer { text: chosen.clone() })?;
    app.done(&ask.id, &format!("answered {}: {}", ask.id, visible(&chosen, false)))
}

/// The approval that has waited longest.
pub fn oldest_approval(app: &App) -> Option<Name> {
    open_approvals(app).ok()?.into_iter().min_by_key(|ask| ask.created_ms).map(|ask| ask.id)
}

/// Shows one ask and reads the answer from the terminal; an empty answer leaves the ask open.
pub fn answer_on_terminal(app: &App, ask: &Name) -> Result<()> {
    let (asks, _) = not_closed(app)?;
    if asks.iter().any(|(known, _)| known.id == *ask && known.kind == AskKind::Approval) {
        return approve(app, &ApproveArgs { ask: Some(ask.to_string()), ..ApproveArgs::default() }).map(drop);
    }
    let ask = find(app, ask.as_str(), AskKind::Question, "answer")?;
    print::raw(text(app, &ask, QuestionState::Open).as_bytes());
    match print::prompt("answer (empty: not now): ") {
        Some(given) if !given.is_empty() => say(app, &ask, AskReply::Answer { text: chosen(&ask, given)? }),
        _ => Ok(()),
    }
}

/// The meaning of an answer: the option with that number, or the text itself.
fn chosen(ask: &QuestionFile, given: String) -> Result<String> {
    let count = ask.options.len();
    let chosen = match given.trim().parse::<usize>() {
        Ok(nth) if count > 0 && !ask.options.contains(&given) => match ask.options.get(nth.wrapping_sub(1)) {
            Some(option) => option.clone(),
            None => {
                let why = format!("could not answer {}: there is no option {nth} (1 to {count})", ask.id);
                return Err(Fault::usage(why)
                    .hint("choose one of the options, or answer with a text")
                    .into());
            }
        },
        _ => given,
    };
    let flaw = if chosen.trim().is_empty() {
        "empty".to_owned()
    } else if chosen.len() > MAX_TEXT_BYTES {
        format!("longer than {MAX_TEXT_BYTES} bytes")
    } else {
        return Ok(chosen);
    };
    Err(Fault::usage(format!("could not answer {}: the answer is {flaw}", ask.id)).into())
}

/// Approves one exact move.
pub fn approve(app: &App, args: &ApproveArgs) -> Result<u8> {
    let ask = match &args.ask {
        Some(name) => find(app, name, AskKind::Approval, "approve")?,
        None => named(app, &[], AskKind::Approval, "approve")?.0,
    };
    let what = format!("could not approve {}", ask.id);
    let Some(approval) = &ask.approval else { bail!("{what}: it contains no move") };
    let hash = approval.hash.clone();
    let rule = if args.always { policy::exact_rule(app, &ask, approval)? } else { None };
    match &args.hash {
        Some(seen) if *seen == hash => {}
        Some(_) => {
            let fault = Fault::failed(format!("{what}: the hash is not the one of this move"));
            return Err(fault.hint("look again with `looop asks`").into());
        }
        None if print::stdin_is_tty() => {
            app.line(text(app, &ask, QuestionState::Open).trim_end());
            app.line(&recap(app, &ask));
            if !print::agreed("Make this move?") {
                app.shown(Some(ask.id.as_str()), "nothing was approved")?;
                return Ok(1);
            }
        }
        None => {
            let fault = Fault::usage(format!("{what}: there is no terminal to show it on"));
            return Err(fault.hint("read `looop asks`, then give the hash that you saw with --hash").into());
        }
    }
    if let Some(rule) = &rule {
        print::line(&policy::rule_words(rule, approval));
        if !args.yes && !print::stdin_is_tty() {
            let fault = Fault::usage(format!("{what} always: there is no terminal to ask you on"));
            return Err(fault.hint("read the rule above, then repeat the command with --yes").into());
        }
        if !args.yes && !print::agreed("Add this rule?") {
            print::line("nothing was approved");
            return Ok(1);
        }
    }
    say(app, &ask, AskReply::Approve { hash })?;
    let mut lines = vec![format!("approved {}; the next beat makes the move", ask.id)];
    match &rule {
        None if args.always => lines.push("no rule was added: one frees this command already".to_owned()),
        None => {}
        Some(rule) => {
            rule.write().context("could not add the rule; the move itself is approved")?;
            let undo = format!("`looop config edit` takes it away: delete {}", rule.key);
            lines.push(format!("added the rule {}; {undo}", rule.key));
        }
    }
    app.done(&ask.id, &lines.join("\n"))
}

/// Rejects a move, or every open one.
pub fn reject(app: &App, args: &RejectArgs) -> Result<u8> {
    if args.all {
        return reject_all(app, args);
    }
    let (ask, why) = named(app, &args.words, AskKind::Approval, "reject")?;
    say(app, &ask, AskReply::Reject { text: why.join(" ") })?;
    app.done(&ask.id, &format!("rejected {}; the same move is refused for a day", ask.id))
}

/// Rejects every open approval. A failure for one of them does not stop the others.
fn reject_all(app: &App, args: &RejectArgs) -> Result<u8> {
    let why = args.words.join(" ");
    let open = open_approvals(app)?;
    if open.is_empty() {
        return app.shown(None, "no move waits for an approval");
    }
    if !args.yes && print::stdin_is_tty() {
        open.iter().for_each(|ask| app.line(text(app, ask, QuestionState::Open).trim_end()));
        if !print::agreed(&format!("Reject these {} moves?", open.len())) {
            app.shown(None, "nothing was rejected")?;
            return Ok(1);
        }
    }
    let (mut done, mut failed) = (Vec::new(), 0);
    for ask in &open {
        match say(app, ask, AskReply::Reject { text: why.clone() }) {
            Ok(()) => done.push(format!("rejected {}; the same move is refused for a day", ask.id)),
            Err(error) => {
                failed += 1;
                print::note(&format!("error: {error:#}"));
            }
        }
    }
    let ids: Vec<&str> = open.iter().map(|ask| ask.id.as_str()).collect();
    app.done(ids.join(" "), &done.join("\n"))?;
    Ok(u8::from(failed > 0))
}
