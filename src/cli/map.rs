//! `looop map`: the files of a project that matter for a question, and why.

use std::path::PathBuf;

use anyhow::Result;

use super::{App, Fault, human_ms, input, json_output, print, visible};
use crate::map::{self, MapLimits, Question, Ranked};
use crate::os::clock::Deadline;
use crate::rules::fix::signature;
use crate::store::file;

/// The longest failure text that is read, in bytes.
const MAX_FAILURE_BYTES: usize = 16 << 20;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  looop map --query 'where are dates read?'\n  pytest -q | looop map --failure - --tokens 4000"
)]
pub struct Args {
    /// Your question, in words.
    #[arg(long, value_name = "TEXT", default_value = "")]
    query: String,
    /// The output of a test run; `-` for stdin.
    #[arg(long, value_name = "FILE")]
    failure: Option<PathBuf>,
    /// The project. Default: the one around the current directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The number of files to list.
    #[arg(long, value_name = "N", default_value_t = 15)]
    files: usize,
    /// Print the files with their definitions, as an agent gets them, in at most this many tokens.
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// The timeout for reading changed files, in seconds.
    #[arg(long, value_name = "S", default_value_t = 20)]
    timeout: u32,
}

pub fn run(app: &App, args: &Args) -> Result<u8> {
    let root = match &args.root {
        Some(root) => app.env.here(root),
        None => map::root_of(&app.env.here(std::path::Path::new(".")))?,
    };
    let root = std::fs::canonicalize(&root)
        .map_err(|error| Fault::usage(format!("could not use the project `{}`: {error}", root.display())))?;
    if !root.is_dir() {
        return Err(Fault::usage(format!("could not map `{}`: it is not a directory", root.display())).into());
    }
    app.ready_without_profile()?;
    let failure = failure(app, args)?;
    app.note_own_state(&app.layout.map(&root));
    let report = signature::read(&failure, Some("exit code 1"), &root.to_string_lossy());
    let limits = MapLimits { timeout_ms: i64::from(args.timeout) * 1000, ..MapLimits::default() };
    let began = Deadline::after_ms(0);
    let (index, update) = map::open(&root, Some(&app.layout.map(&root)), &limits)?;
    let read_ms = began.spent_ms();
    let question = Question { failure: &failure, frame: &report.frame, words: &args.query };
    let answer = map::ask(&index, &question);
    let shown = &answer.files[..answer.files.len().min(args.files)];
    let mut read = |path: &str| file::read_text(&root.join(path), limits.file_bytes).ok().flatten();
    let text = args.tokens.map(|tokens| map::render(shown, tokens, &mut read));
    if app.json {
        return print::answer_whole(json_output::Mapped {
            root: root.to_string_lossy().into_owned(),
            aimed: answer.aimed,
            files: shown.to_vec(),
            index: json_output::Indexed { update, took_ms: read_ms, gaps: update.gaps() },
            tokens: text.as_ref().map(|text| text.tokens),
            text: text.map(|text| text.text),
        });
    }
    if shown.is_empty() {
        print::line("the map can read none of the files here");
    } else if !answer.aimed {
        print::line("no question was given, or none of its words occur here: these files are used most");
    }
    let cells = |file: &Ranked| {
        let why = file.why.first().map_or("", String::as_str);
        let (path, why) = (visible(&file.path, false), visible(why, false));
        vec![format!("{:>5.1}%", file.rank * 100.0), app.style.bold(&path), app.style.dim(&why)]
    };
    print::raw(print::table(&shown.iter().map(cells).collect::<Vec<_>>()).as_bytes());
    let took = human_ms(read_ms);
    print::note(&format!("{} files, {} of them read now, in {took}", update.files, update.parsed));
    print::warn(&update.gaps());
    if let Some(text) = text {
        print::line("");
        print::raw(text.text.as_bytes());
    }
    Ok(0)
}

fn failure(app: &App, args: &Args) -> Result<String> {
    let Some(path) = &args.failure else { return Ok(String::new()) };
    if path.as_os_str() == "-" {
        return input::stdin("what the tests printed");
    }
    let bytes = input::file(app, path, |path| file::read(path, MAX_FAILURE_BYTES))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
