//! What the decider of a simulation says, well or badly, and what policy and consent make of it.

use std::path::{Path, PathBuf};

use looop::rules::beat::ask::{Approval, QuestionFile};
use looop::rules::beat::decision::{Action, Move, parse_reply};
use looop::rules::beat::policy::{self, PolicyDecision, PolicyFacts};
use looop::rules::beat::scope::{self, ApprovalScope, CommandScope, FileScope};
use looop::rules::beat::state::{LoopState, Operation};
use looop::rules::beat::{entry::MoveOutcome, failing::Class, observed::Observed};
use looop::rules::json::canonical;
use looop::tick::plan::{MovePlan, consent, operation};
use serde_json::{Value, json};

use super::{Mutant, outside::World};

const DATA_DIR: &str = "/data";

fn refuse(why: &str) -> MovePlan {
    MovePlan::refused(why)
}

impl World {
    /// A valid move, or why there is none. Like the real decision it asks once more after a bad reply.
    pub fn reply(&mut self) -> Result<Move, Class> {
        if self.rng.usize(..1000) < 60 {
            self.tally.count("runner faults");
            let classes = [
                Class::Transient,
                Class::Limit,
                Class::Crashed,
                Class::Timeout,
                Class::Empty,
                Class::Down,
                Class::Cancelled,
            ];
            return Err(*self.rng.choice(&classes).unwrap());
        }
        for _ in 0..2 {
            let wanted = self.wanted().to_string();
            let text = match self.rng.usize(..1000) < 100 {
                false => format!("I have thought about it.\n```json\n{wanted}\n```\n"),
                true => {
                    self.tally.count("bad replies");
                    match self.rng.usize(0..4) {
                        0 => format!("{wanted}\n{{\"move\":\"noop\",\"why\":\"another move\"}}"),
                        1 => wanted[..wanted.len() - 2].to_owned(),
                        2 => wanted.replacen("\"move\":", "\"moves\":", 1),
                        _ => "I would rather not.".to_owned(),
                    }
                }
            };
            if let Ok(decided) = parse_reply(&text) {
                return Ok(decided);
            }
        }
        Err(Class::Invalid)
    }

    fn wanted(&mut self) -> Value {
        let n = self.rng.usize(0..1_000_000);
        let goal = *self.rng.choice(&["g0", "g1", "g2"]).unwrap();
        let mut wanted = match self.rng.usize(0..205) {
            0..160 => json!({ "move": "noop" }),
            160..165 => json!({ "move": "write_goal", "id": goal, "body": format!("goal: number {n}") }),
            165..167 => json!({ "move": "archive_goal", "id": goal }),
            167..171 => json!({ "move": "ask", "text": format!("which of {}?", n % 5) }),
            171..175 => {
                json!({ "move": "schedule", "name": format!("t{}", n % 3), "in_s": n % 5_000, "note": "look" })
            }
            175..177 => {
                json!({ "move": "schedule", "name": format!("e{}", n % 2), "every_s": 60 + n % 9_000, "note": "look" })
            }
            177..179 => json!({ "move": "drop_schedule", "name": format!("e{}", n % 2) }),
            179..182 => json!({ "move": "run", "argv": ["status"] }),
            182..185 => json!({ "move": "run", "argv": ["show", format!("x{n}")] }),
            185..191 => json!({ "move": "run", "argv": ["deploy", "deploy.sh", format!("{}", n % 3)] }),
            191..193 => json!({ "move": "run", "sh": "deploy && show" }),
            193..195 => json!({ "move": "run", "argv": ["rm", ".git/config"] }),
            195..197 => json!({ "move": "write_playbook", "body": format!("Be calm, {}.", n % 3) }),
            197..201 => json!({ "move": "start_worker", "id": format!("w{}", n % 4), "brief": "go" }),
            201..203 => json!({ "move": "start_worker", "id": "w9", "brief": "go", "grant": ["GH_TOKEN"] }),
            _ => json!({ "move": "stop_worker", "id": format!("w{}", n % 4) }),
        };
        wanted["why"] = "as the seed says".into();
        if self.rng.usize(..1000) < 300 {
            wanted["goal"] = goal.into();
        }
        if self.rng.usize(..1000) < 200 {
            wanted["next_beat_s"] = (n % 600).into();
        }
        wanted
    }

    pub fn plan(&self, beat: &LoopState, sensed: &Observed, id: &str, decided: &Move) -> MovePlan {
        let protected = [PathBuf::from("/config/looop.json")];
        let facts = PolicyFacts {
            rules: &self.rules,
            tainted: sensed.tainted,
            data_dir: Path::new(DATA_DIR),
            place: Some(Path::new(DATA_DIR)),
            protected: &protected,
            resolve: Path::to_path_buf,
            was_truncated: false,
            sandbox: true,
            proposed: false,
            repo_listed: false,
            first_paid: false,
            free_check: false,
        };
        match policy::judge(decided, &facts) {
            PolicyDecision::Refused(why) => refuse(&why),
            PolicyDecision::Free => self.free(sensed, id, decided),
            PolicyDecision::Waits(because) => {
                let plan = self.free(sensed, id, decided);
                if plan.operation == Operation::Nothing {
                    return plan;
                }
                let approval = Approval {
                    decided: decided.clone(),
                    scope: self.scope(decided),
                    operation: Some(plan.operation),
                    diff: String::new(),
                    because,
                    hash: String::new(),
                };
                let ttl_ms = self.limits.approval_ttl_ms;
                consent::ask_first(beat, sensed, self.now(), ttl_ms, id, approval).expect("an ask has a form")
            }
        }
    }

    fn free(&self, sensed: &Observed, id: &str, decided: &Move) -> MovePlan {
        operation::plan(sensed, self.now(), id, decided, || {
            let Action::Run(run) = &decided.action else { return Ok(Operation::StartWorker(Box::default())) };
            let argv = run.full_argv();
            Ok(Operation::Exec {
                exe: format!("/bin/{}", argv[0]),
                argv,
                cwd: DATA_DIR.to_owned(),
                files: Vec::new(),
                folders: Vec::new(),
            })
        })
        .expect("a move has a form")
    }

    pub fn plan_approved(&self, sensed: &Observed, ask: &QuestionFile) -> (Move, MovePlan) {
        let approval = ask.approval.as_ref().expect("what is approved has a move");
        let decided = approval.decided.clone();
        let answer = sensed.asks.get(&ask.id).and_then(|pair| pair.1.as_ref());
        let mut approved = consent::approved(ask, approval, answer);
        if self.is(Mutant::TakesAnyYes) {
            approved = approval.operation.clone();
        }
        let plan = match approved {
            None => refuse("the approval was not for this"),
            Some(_) if self.scope(&decided) != approval.scope && !self.is(Mutant::LooksAtNoByte) => {
                refuse("something that the approval covered has changed since")
            }
            Some(operation) => MovePlan { operation, then: MoveOutcome::Done { note: String::new() } },
        };
        (decided, plan)
    }

    /// What an approval to a move covers, as it is now.
    fn scope(&self, decided: &Move) -> ApprovalScope {
        let mut scope = ApprovalScope {
            form: scope::FORM,
            action: canonical(&decided.action.to_json()),
            ..ApprovalScope::default()
        };
        match &decided.action {
            Action::Run(run) => {
                let argv = run.full_argv();
                scope.files = vec![FileScope {
                    role: "file".to_owned(),
                    path: "/data/deploy.sh".to_owned(),
                    real: "/data/deploy.sh".to_owned(),
                    place: String::new(),
                    content: self.script.to_string(),
                }];
                scope.command = Some(CommandScope {
                    program: format!("/bin/{}", argv[0]),
                    argv,
                    cwd: DATA_DIR.to_owned(),
                    place: None,
                    env: vec!["PATH".to_owned()],
                    values: String::new(),
                });
            }
            Action::WritePlaybook { .. } => scope.replaces = self.digest(super::outside::PLAYBOOK),
            _ => {}
        }
        scope
    }
}
