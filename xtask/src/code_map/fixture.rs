//! Pure. Five projects with a bug that lies where no list and no log names it, only imports lead there.

use fastrand::Rng;

use crate::seed::{seeded, shuffled};

/// A project in Python with one wrong line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixtureProject {
    /// What the task says.
    pub prompt: &'static str,
    /// The file that the task lists: where the failure shows.
    pub listed: String,
    /// The file with the wrong line.
    pub faulty: String,
    /// What stands there, and what should.
    pub wrong: &'static str,
    /// What should stand there.
    pub right: &'static str,
    /// All files.
    pub files: Vec<(String, String)>,
}

struct Bug {
    prompt: &'static str,
    wrong: &'static str,
    right: &'static str,
    /// Name and text of each module: first the one that is listed, last the one with the wrong line.
    chain: &'static [(&'static str, &'static str)],
    test: &'static str,
}

/// How many bugs there are.
pub const BUGS: usize = 5;

const ALL: [Bug; BUGS] = [
    Bug {
        prompt: "Login fails for a user who exists.",
        wrong: "    return [row for row in TABLES[table] if row[\"id\"] > FIRST]",
        right: "    return [row for row in TABLES[table] if row[\"id\"] >= FIRST]",
        chain: &[
            (
                "auth",
                "from app.session import open_session\n\n\ndef login(name, secret):\n    return open_session(name.strip(), secret)\n",
            ),
            (
                "session",
                "from app.users import find_user\n\nTTL = 3600\n\n\ndef open_session(name, secret):\n    user = find_user(name)\n    if user is None or user[\"secret\"] != secret:\n        return None\n    return {\"user\": user[\"id\"], \"ttl\": TTL}\n",
            ),
            (
                "users",
                "from app.db import select\n\n\ndef find_user(name):\n    found = [row for row in select(\"users\") if row[\"name\"] == name]\n    return found[0] if found else None\n",
            ),
            (
                "db",
                "FIRST = 7\nTABLES = {\"users\": [{\"id\": 7, \"name\": \"ada\", \"secret\": \"x\"}, {\"id\": 8, \"name\": \"bob\", \"secret\": \"y\"}]}\n\n\ndef select(table):\nWRONG\n",
            ),
        ],
        test: "from app.auth import login\n\n\nclass Test(unittest.TestCase):\n    def test_login(self):\n        self.assertEqual(login(\"ada\", \"x\"), {\"user\": 7, \"ttl\": 3600})\n",
    },
    Bug {
        prompt: "The total of an invoice is off by a cent.",
        wrong: "    return int(amount * 100) / 100",
        right: "    return int(amount * 100 + 0.5) / 100",
        chain: &[
            (
                "invoice",
                "from app.lines import priced\n\n\ndef total(lines):\n    return sum(priced(line) for line in lines)\n",
            ),
            (
                "lines",
                "from app.discount import reduced\n\n\ndef priced(line):\n    return reduced(line[\"price\"] * line[\"count\"], line.get(\"percent\", 0))\n",
            ),
            (
                "discount",
                "from app.money import cents\n\n\ndef reduced(amount, percent):\n    return cents(amount * (100 - percent) / 100)\n",
            ),
            ("money", "def cents(amount):\nWRONG\n"),
        ],
        test: "from app.invoice import total\n\n\nclass Test(unittest.TestCase):\n    def test_total(self):\n        self.assertEqual(total([{\"price\": 3.35, \"count\": 1, \"percent\": 15}]), 2.85)\n",
    },
    Bug {
        prompt: "An editor may not publish.",
        wrong: "PARENTS = {\"owner\": \"editor\", \"editor\": None, \"author\": None}",
        right: "PARENTS = {\"owner\": \"editor\", \"editor\": \"author\", \"author\": None}",
        chain: &[
            (
                "publish",
                "from app.policy import may\n\n\ndef publish(page, who):\n    if not may(who, \"publish\"):\n        return \"refused\"\n    return \"published \" + page\n",
            ),
            (
                "policy",
                "from app.roles import inherited\n\nGRANTS = {\"author\": [\"publish\"], \"editor\": [\"review\"], \"owner\": [\"delete\"]}\n\n\ndef may(role, deed):\n    return any(deed in GRANTS[one] for one in inherited(role))\n",
            ),
            (
                "roles",
                "from app.hierarchy import PARENTS\n\n\ndef inherited(role):\n    while role:\n        yield role\n        role = PARENTS[role]\n",
            ),
            ("hierarchy", "WRONG\n"),
        ],
        test: "from app.publish import publish\n\n\nclass Test(unittest.TestCase):\n    def test_publish(self):\n        self.assertEqual(publish(\"news\", \"editor\"), \"published news\")\n",
    },
    Bug {
        prompt: "The search does not find a word with a capital letter.",
        wrong: "    return [word.strip(\".,\") for word in text.split()]",
        right: "    return [word.strip(\".,\").lower() for word in text.split()]",
        chain: &[
            (
                "search",
                "from app.inverted import Inverted\n\n\ndef search(pages, word):\n    return Inverted(pages).pages_with(word.lower())\n",
            ),
            (
                "inverted",
                "from app.analyser import terms\n\n\nclass Inverted:\n    def __init__(self, pages):\n        self.by_term = {}\n        for name, text in pages.items():\n            for term in terms(text):\n                self.by_term.setdefault(term, set()).add(name)\n\n    def pages_with(self, term):\n        return sorted(self.by_term.get(term, ()))\n",
            ),
            (
                "analyser",
                "from app.splitter import pieces\n\nSTOP = {\"the\", \"a\"}\n\n\ndef terms(text):\n    return [piece for piece in pieces(text) if piece not in STOP]\n",
            ),
            ("splitter", "def pieces(text):\nWRONG\n"),
        ],
        test: "from app.search import search\n\n\nclass Test(unittest.TestCase):\n    def test_search(self):\n        self.assertEqual(search({\"one\": \"The Lamp.\", \"two\": \"a lamp\"}, \"Lamp\"), [\"one\", \"two\"])\n",
    },
    Bug {
        prompt: "An order on a Friday is said to arrive on Sunday.",
        wrong: "    return day % 7 not in (5,)",
        right: "    return day % 7 not in (5, 6)",
        chain: &[
            (
                "orders",
                "from app.shipping import arrival\n\n\ndef promise(order):\n    return arrival(order[\"day\"], order.get(\"express\", False))\n",
            ),
            (
                "shipping",
                "from app.routes import days_on_the_road\nfrom app.workdays import after\n\n\ndef arrival(day, express):\n    return after(day, days_on_the_road(express))\n",
            ),
            ("routes", "def days_on_the_road(express):\n    return 1 if express else 2\n"),
            (
                "workdays",
                "from app.weekend import is_open\n\n\ndef after(day, steps):\n    while steps > 0:\n        day += 1\n        steps -= is_open(day)\n    return day\n",
            ),
            ("weekend", "def is_open(day):\nWRONG\n"),
        ],
        test: "from app.orders import promise\n\n\nclass Test(unittest.TestCase):\n    def test_promise(self):\n        self.assertEqual(promise({\"day\": 4}), 8)\n",
    },
];

const THINGS: [&str; 24] = [
    "basket",
    "banner",
    "barcode",
    "bundle",
    "catalogue",
    "chart",
    "contact",
    "currency",
    "depot",
    "export",
    "feed",
    "gallery",
    "gift",
    "label",
    "locale",
    "mailer",
    "menu",
    "notice",
    "picture",
    "queue",
    "rating",
    "survey",
    "theme",
    "voucher",
];

/// One of the projects, with modules around it that have nothing to do with the bug.
pub fn fixture(which: usize, seed: u64) -> FixtureProject {
    let bug = &ALL[which % BUGS];
    let mut rng = seeded(seed, &format!("shop {which}"));
    let mut files: Vec<(String, String)> = vec![("app/__init__.py".to_owned(), String::new())];
    for (name, text) in bug.chain {
        files.push((format!("app/{name}.py"), text.replace("WRONG", bug.wrong)));
    }
    let things = shuffled(&mut rng, THINGS.to_vec());
    for (at, thing) in things.iter().enumerate() {
        files.push((
            format!("app/{thing}.py"),
            module(&mut rng, thing, things.get(at.wrapping_sub(1)).copied()),
        ));
    }
    let first = bug.chain.first().map_or("", |(name, _)| name);
    files.push((format!("tests/test_{first}.py"), format!("import unittest\n\n{}", bug.test)));
    files.push(("tests/__init__.py".to_owned(), String::new()));
    FixtureProject {
        prompt: bug.prompt,
        listed: format!("app/{first}.py"),
        faulty: format!("app/{}.py", bug.chain.last().map_or("", |(name, _)| name)),
        wrong: bug.wrong,
        right: bug.right,
        files,
    }
}

/// A module that uses another one of its kind.
fn module(rng: &mut Rng, thing: &str, other: Option<&str>) -> String {
    let mut text = other.map_or(String::new(), |other| format!("from app.{other} import make_{other}\n\n\n"));
    let inner = other.map_or("[]".to_owned(), |other| format!("make_{other}(count - 1)"));
    text.push_str(&format!(
        "def make_{thing}(count):\n    rest = {inner} if count > 0 else []\n    return [\"{thing}\", {}] + rest\n",
        rng.usize(1..100)
    ));
    for part in 0..rng.usize(2..6) {
        text.push_str(&format!(
            "\n\ndef {thing}_part_{part}(items, user=None, total=0):\n    \"\"\"The {thing} of a user, page {part}.\"\"\"\n    kept = [item for item in items if item != {}]\n    return sorted(kept)[:{}] + make_{thing}(total)\n",
            rng.usize(1..50),
            rng.usize(3..20)
        ));
    }
    text
}

/// An agent that mends the wrong line where it is shown to it, and else can only leave a remark.
pub fn script(fixture: &FixtureProject) -> String {
    format!(
        "#!/bin/sh\nS=$BENCH_STATE\nn=$(($(cat \"$S/calls\" 2>/dev/null || echo 0) + 1)); echo $n >\"$S/calls\"\n\
         printf '%s' \"$2\" >\"$S/prompt.$n\"\ncat >\"$S/wrong\" <<'END'\n{}\nEND\ncat >\"$S/right\" <<'END'\n{}\nEND\n\
         if grep -qxF -f \"$S/wrong\" \"$S/prompt.$n\"; then\n\
         awk -v w=\"$S/wrong\" -v r=\"$S/right\" 'BEGIN {{ getline wrong <w; getline right <r }} {{ print $0 == wrong ? right : $0 }}' {f} >\"$S/out\" && cat \"$S/out\" >{f}\n\
         echo 'the line is mended'\nelse\necho \"# looked at $n times\" >>{}\necho 'what I see is right; the fault is elsewhere'\nfi\n",
        fixture.wrong,
        fixture.right,
        fixture.listed,
        f = fixture.faulty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_line_is_in_one_file_that_nothing_names() {
        for which in 0..BUGS {
            let fixture = fixture(which, 1);
            let with: Vec<&str> = fixture
                .files
                .iter()
                .filter(|(_, text)| text.contains(fixture.wrong))
                .map(|(path, _)| path.as_str())
                .collect();
            assert_eq!(with, [fixture.faulty.as_str()]);
            let stem = fixture.faulty.trim_start_matches("app/").trim_end_matches(".py");
            let (_, test) = fixture.files.iter().find(|(path, _)| path.starts_with("tests/test_")).unwrap();
            let (_, listed) = fixture.files.iter().find(|(path, _)| *path == fixture.listed).unwrap();
            assert!(
                !test.contains(stem) && !listed.contains(stem) && !fixture.prompt.contains(stem),
                "{stem}"
            );
        }
    }
}
