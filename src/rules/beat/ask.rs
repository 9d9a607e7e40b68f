//! Pure. Questions and approvals: the formats of `asks/<id>.json` and its answer, and how they are shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::Move;
use super::scope::{self, ApprovalScope};
use super::state::Operation;
use crate::rules::digest::digest;
use crate::rules::name::Name;
use crate::rules::time::Now;

/// The most approvals that may be open at once.
pub const MAX_OPEN_APPROVALS: usize = 20;
/// For how long a rejected approval is refused without asking again, in milliseconds.
pub const REJECTED_FOR_MS: i64 = 24 * 3_600_000;

/// The kind of an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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

/// One exact move, as it is shown and as it will be executed. Files of earlier versions can still be read, but they have
/// no operation, or a scope of another format, so that an approval in them is not valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    #[serde(rename = "move")]
    pub decided: Move,
    /// What the move would touch when it was proposed.
    #[serde(default)]
    pub scope: ApprovalScope,
    /// The operation that the approval permits: exactly this one is performed. `None` in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The diff of the file that the move would replace, or a worker's brief; empty for a command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// Why the move needs an approval.
    pub because: String,
    /// An approval is valid for exactly this value of [`Approval::bound_hash`].
    pub hash: String,
}

/// The content of `asks/<id>.answer.json`, created once and exclusively.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerFile {
    pub ask: Name,
    /// When it was answered, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The key is that of 0.1, so that a supervisor of 0.1 reads the answer.
    #[serde(rename = "said", alias = "reply")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
        self.scope.form != scope::FORM || self.operation.is_none()
    }

    /// The hash that an approval is bound to: blake3 over scope, operation, ask id and expiry.
    ///
    /// # Errors
    /// When the operation has no JSON form: the hash would not cover it.
    pub fn bound_hash(&self, ask_id: &str, expires_ms: i64) -> serde_json::Result<String> {
        let (operation, expiry) = (serde_json::to_string(&self.operation)?, expires_ms.to_string());
        let scope = self.scope.digest();
        Ok(digest(&[scope.as_bytes(), operation.as_bytes(), ask_id.as_bytes(), expiry.as_bytes()]))
    }
}

/// The reason why an approval of an earlier version is not valid.
pub const OUTDATED: &str = "an earlier version of looop asked for it, and the approval would cover less than it must; the loop asks again";

impl QuestionFile {
    /// Creates a question of a beat.
    pub fn new(id: Name, beat: &str, created_ms: i64, text: String) -> QuestionFile {
        QuestionFile {
            id,
            kind: AskKind::Question,
            worker: None,
            goal: None,
            text,
            options: Vec::new(),
            reference: None,
            beat: beat.to_owned(),
            created_ms,
            expires_ms: None,
            approval: None,
            clean: true,
        }
    }

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

/// Asks with their answers, by id. A stranded ask counts as answered by [`AskReply::Stranded`].
pub type Asks = BTreeMap<Name, (QuestionFile, Option<AnswerFile>)>;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A question of the loop.
    pub fn question(id: &str) -> QuestionFile {
        let text =
            format!(r#"{{"id":"{id}","kind":"question","text":"t","beat":"b","created_ms":0,"clean":true}}"#);
        serde_json::from_str(&text).unwrap()
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
            assert_eq!(ask.state(answer, Now::fixed(2, 0)), QuestionState::Expired);
        }
    }

    #[test]
    fn an_approval_is_bound_to_scope_operation_id_and_expiry() {
        let text = r#"{"move":{"action":{"run":{"argv":["ls"]}},"why":"w"},"scope":{"form":2,"action":"{}"},
            "operation":{"exec":{"argv":["ls"],"exe":"/bin/ls","cwd":"/"}},"because":"b","hash":"h"}"#;
        let base: Approval = serde_json::from_str(text).unwrap();
        assert!(!base.is_outdated());
        let bound = base.bound_hash("a", 1).unwrap();
        let other = |from: &str, to: &str| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            serde_json::from_str::<Approval>(&text.replace(from, to)).unwrap().bound_hash("a", 1).unwrap()
        };
        for (from, to) in [
            (r#""exec":{"argv":["ls"]"#, r#""exec":{"argv":["rm"]"#),
            ("/bin/ls", "/bin/rm"),
            (r#""cwd":"/""#, r#""cwd":"/tmp""#),
            (r#""action":"{}""#, r#""action":"{ }""#),
        ] {
            assert_ne!(other(from, to), bound, "{to}");
        }
        assert_ne!(base.bound_hash("a", 2).unwrap(), bound);
        assert_ne!(base.bound_hash("b", 1).unwrap(), bound);
        let old = Approval { operation: None, ..base };
        assert!(old.is_outdated(), "an earlier version kept no operation");
    }

    #[test]
    fn an_approval_expires() {
        let ask = QuestionFile { kind: AskKind::Approval, expires_ms: Some(100), ..question("ap-1") };
        let yes =
            AnswerFile { ask: ask.id.clone(), at_ms: 50, reply: AskReply::Approve { hash: "h".to_owned() } };
        let at = |unix_ms| Now::fixed(unix_ms, 0);
        assert_eq!(ask.state(Some(&yes), at(99)), QuestionState::Approved);
        assert_eq!(ask.state(Some(&yes), at(100)), QuestionState::Expired);
        assert_eq!(ask.state(None, at(99)), QuestionState::Open);
        let text = serde_json::to_string(&yes).unwrap();
        assert_eq!(serde_json::from_str::<AnswerFile>(&text).unwrap(), yes);
    }
}
