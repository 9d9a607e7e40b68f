//! Pure. Questions and approvals: the formats of `asks/<id>.json` and its answer, and how they are shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Move;
use super::name::Name;
use super::scope::{self, ApprovalScope};
use super::time::Now;

/// The most approvals that may be open at once.
pub const MAX_OPEN_APPROVALS: usize = 20;
/// For how long a rejected approval is refused without asking again, in milliseconds.
pub const REJECTED_FOR_MS: i64 = 24 * 3_600_000;

/// The kind of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// A question; the answer is text.
    Question,
    /// An approval of one exact move: approve or reject.
    Approval,
}

/// The content of `asks/<id>.json`, written once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionFile {
    /// The id, which is also the file's name.
    pub id: Name,
    pub kind: AskKind,
    /// The worker that asks; `None`: the loop asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Name>,
    /// The question, or why the move is wanted.
    pub text: String,
    /// The answers to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// A reference to what the question is about.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The id of the beat that asked.
    pub beat: String,
    /// When it was asked, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Until when it can be answered, in milliseconds since the Unix epoch; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// The move that waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// True if the author had read no untrusted text. If the key is missing, the author may have read some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean: bool,
}

/// One exact move, as it is shown and as it will be executed. Files of earlier versions can still be read, but their
/// scope has another format, so that an approval in them is not valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    #[serde(rename = "move")]
    pub decided: Move,
    /// What the move would touch when it was proposed.
    #[serde(default)]
    pub scope: ApprovalScope,
    /// The diff of the file that the move would replace, or a worker's brief; empty for a command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// Why the move needs an approval.
    pub because: String,
    /// blake3 over scope, ask id and expiry; an approval is valid for exactly this hash.
    pub hash: String,
}

/// The content of `asks/<id>.answer.json`, created once and exclusively.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFile {
    pub ask: Name,
    /// When it was answered, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    #[serde(alias = "said")]
    pub reply: AskReply,
}

impl AnswerFile {
    /// True if an ask of this kind can have this answer.
    pub fn fits(&self, ask: &QuestionFile) -> bool {
        match self.reply {
            AskReply::Answer { .. } => ask.kind == AskKind::Question,
            AskReply::Approve { .. } | AskReply::Reject { .. } => ask.approval.is_some(),
            AskReply::Expired => true,
            // `Stranded` is never written to a file.
            AskReply::Stranded => false,
        }
    }
}

/// The user's reply to an ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AskReply {
    /// A reply to a question.
    Answer { text: String },
    /// An approval of exactly this hash.
    Approve {
        /// The hash that was shown to the user.
        hash: String,
    },
    /// A rejection of the move.
    Reject {
        /// The reason.
        text: String,
    },
    /// The ask expired without a reply.
    Expired,
    /// The worker that asked has ended, so a reply has no effect. Computed at each read, and never written.
    Stranded,
}

/// The state of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuestionState {
    /// It waits for the user.
    Open,
    /// The question was answered.
    Answered,
    /// The move was approved and is not made yet.
    Approved,
    /// The move was rejected.
    Rejected,
    /// It expired.
    Expired,
    /// The worker that asked has ended.
    Stranded,
}

impl Approval {
    /// True for an approval of an earlier version, which would cover less than the screen says.
    pub fn is_outdated(&self) -> bool {
        self.scope.form != scope::FORM
    }
}

/// The reason why an approval of an earlier version is not valid.
pub const OUTDATED: &str = "an earlier version of looop asked for it, and the approval would cover less than it must; the loop asks again";

impl QuestionFile {
    /// True for an approval of an earlier version.
    pub fn is_outdated(&self) -> bool {
        self.approval.as_ref().is_some_and(Approval::is_outdated)
    }

    /// Returns the state of the ask with this answer.
    pub fn state(&self, answer: Option<&AnswerFile>, now: Now) -> QuestionState {
        let late = self.is_outdated() || self.expires_ms.is_some_and(|end| now.unix_ms >= end);
        match answer.map(|a| &a.reply) {
            Some(AskReply::Answer { .. }) => QuestionState::Answered,
            Some(AskReply::Reject { .. }) => QuestionState::Rejected,
            Some(AskReply::Expired) => QuestionState::Expired,
            Some(AskReply::Stranded) => QuestionState::Stranded,
            // An approval expires even if it was given in time.
            Some(AskReply::Approve { .. }) if late => QuestionState::Expired,
            Some(AskReply::Approve { .. }) => QuestionState::Approved,
            None if late => QuestionState::Expired,
            None => QuestionState::Open,
        }
    }
}

/// An ask with its reply, as one decision sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsweredQuestion {
    pub ask: Name,
    /// The question.
    pub text: String,
    /// `answered`, `rejected`, `expired` or `stranded`.
    pub state: String,
    /// The user's text; may be empty.
    pub answer: String,
    /// The id of the beat that asked.
    pub beat: String,
}

/// Makes control, format and bidirectional characters visible as `\u{202e}`; with `keep_lines` it keeps line breaks. It
/// doubles backslashes before such an escape, and before text that looks like one, so that two different texts never
/// look the same.
pub fn visible(text: &str, keep_lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut backslashes = 0;
    for (at, c) in text.char_indices() {
        let hidden = is_hidden(c) && !(c == '\n' && keep_lines);
        if hidden || text[at..].starts_with("u{") {
            out.extend(std::iter::repeat_n('\\', backslashes));
        }
        if hidden {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        } else {
            out.push(c);
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    out
}

/// True for a character that does not appear as itself: a control character, one that changes the order of others, one
/// that is not drawn (default-ignorable in the Unicode database, or blank), and any space except U+0020.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(c, '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Quotes an argument vector so that a shell reads the same arguments back and the user cannot misread it.
pub fn quote_argv(argv: &[String]) -> String {
    argv.iter().map(|arg| quote(arg)).collect::<Vec<_>>().join(" ")
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    if !arg.chars().any(is_hidden) {
        return format!("'{}'", arg.replace('\'', r"'\''"));
    }
    let mut out = String::from("$'");
    for c in arg.chars() {
        match c {
            '\\' | '\'' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if is_hidden(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if is_hidden(c) && u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ if is_hidden(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn argv_is_shown_without_ambiguity() {
        let argv = strings(&["git", "commit", "-m", "it's", "", "a b", "x\u{202e}y\n", "日本"]);
        assert_eq!(quote_argv(&argv), r"git commit -m 'it'\''s' '' 'a b' $'x\u202ey\n' '日本'");
    }

    #[test]
    fn hidden_characters_become_visible() {
        assert_eq!(visible("a\u{1b}[31m\u{202e}b\nc", true), "a\\u{1b}[31m\\u{202e}b\nc");
        assert_eq!(visible("a\nb", false), "a\\u{a}b");
        let hidden = "\u{34f}\u{115f}\u{1160}\u{17b4}\u{17b5}\u{3164}\u{ffa0}\u{2800}\u{1d173}\u{1d17a}\u{e0000}\u{e0fff}";
        let spaces = "\u{a0}\u{1680}\u{2000}\u{200a}\u{202f}\u{205f}\u{3000}";
        assert_eq!(hidden.chars().chain(spaces.chars()).find(|c| !is_hidden(*c)), None);
        assert_eq!("a é日\u{1f600} -".chars().find(|c| is_hidden(*c)), None);
    }

    #[test]
    fn text_that_looks_like_a_hidden_character_is_distinguished_from_it() {
        assert_eq!(visible(r"x\u{202e}y C:\users", false), r"x\\u{202e}y C:\users");
        let alike = [r"\u{202e}", "\u{202e}", "\\\u{202e}", r"\\u{202e}", "\\\\\u{202e}"];
        let shown: std::collections::BTreeSet<_> = alike.iter().map(|text| visible(text, false)).collect();
        assert_eq!(shown.len(), alike.len(), "{shown:?}");
        assert_eq!(visible("a \\\nb", true), "a \\\nb");
    }

    #[test]
    fn an_approval_of_an_earlier_version_is_never_valid() {
        let text = r#"{"id":"ap-1","kind":"approval","text":"w","beat":"b","created_ms":0,"expires_ms":100,
            "approval":{"move":{"action":{"run":{"argv":["ls"]}},"why":"w"},
            "subject":{"decided":"{}","argv":["ls"],"sandbox":"none"},"because":"no rule allows it","hash":"h"}}"#;
        let ask: QuestionFile = serde_json::from_str(text).unwrap();
        let yes =
            AnswerFile { ask: ask.id.clone(), at_ms: 1, reply: AskReply::Approve { hash: "h".to_owned() } };
        assert!(ask.is_outdated());
        for answer in [None, Some(&yes)] {
            assert_eq!(ask.state(answer, Now { unix_ms: 2, offset_s: 0 }), QuestionState::Expired);
        }
    }

    #[test]
    fn an_approval_expires() {
        let ask = QuestionFile {
            id: Name::parse("ap-1").unwrap(),
            kind: AskKind::Approval,
            worker: None,
            goal: None,
            text: String::new(),
            options: vec![],
            reference: None,
            beat: "b".to_owned(),
            created_ms: 0,
            expires_ms: Some(100),
            approval: None,
            clean: true,
        };
        let yes =
            AnswerFile { ask: ask.id.clone(), at_ms: 50, reply: AskReply::Approve { hash: "h".to_owned() } };
        let at = |unix_ms| Now { unix_ms, offset_s: 0 };
        assert_eq!(ask.state(Some(&yes), at(99)), QuestionState::Approved);
        assert_eq!(ask.state(Some(&yes), at(100)), QuestionState::Expired);
        assert_eq!(ask.state(None, at(99)), QuestionState::Open);
        let text = serde_json::to_string(&yes).unwrap();
        assert_eq!(serde_json::from_str::<AnswerFile>(&text).unwrap(), yes);
    }
}
