//! Tests of edits in words.

use super::*;

const OLD: &str = "one\n  two \nthree\n";

fn made(answer: &str) -> Result<BTreeMap<String, String>, String> {
    let read = |path: &str| match path {
        "a.py" => Ok(Some(OLD.to_owned())),
        "crlf" => Ok(Some("one\r\ntwo\r\n".to_owned())),
        "open" => Ok(Some("one\ntwo".to_owned())),
        "twice" => Ok(Some("x\ny\nx\n".to_owned())),
        "../out" => Err("it is outside of the project".to_owned()),
        _ => Ok(None),
    };
    apply(&parse(answer)?, &read)
}

#[track_caller]
fn one(answer: &str) -> (String, String) {
    let all = made(answer).unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

#[test]
fn a_part_is_replaced_however_the_answer_is_dressed() {
    let expected = ("a.py".to_owned(), "one\nTWO\n2\nthree\n".to_owned());
    let block = "<<<<<<< SEARCH\n  two \n=======\nTWO\n2\n>>>>>>> REPLACE";
    for answer in [
        format!("FILE: a.py\n{block}\n"),
        format!("Sure, here it is.\n\n**FILE: `a.py`**\n```python\n{block}\n```\nI changed two."),
        format!("### FILE: ./a.py\n\n{}", block.replace("  two ", "  two")),
        format!("a.py\n```\n{block}\n```"),
    ] {
        assert_eq!(one(&answer), expected, "{answer}");
    }
}

#[test]
fn a_file_can_be_given_whole_and_edits_build_on_each_other() {
    let whole = "FILE: new/b.py\n<<<<<<< WHOLE\n=======\n```\nx\n>>>>>>> WHOLE\n";
    assert_eq!(one(whole), ("new/b.py".to_owned(), "=======\n```\nx\n".to_owned()));
    let two = "FILE: a.py\n<<<<<<< SEARCH\none\n=======\n1\n>>>>>>> REPLACE\n<<<<<<< SEARCH\n1\n=======\n>>>>>>> REPLACE\n";
    assert_eq!(one(two), ("a.py".to_owned(), "  two \nthree\n".to_owned()));
    let new = "FILE: c.py\n<<<<<<< SEARCH\n=======\nfresh\n>>>>>>> REPLACE\n";
    assert_eq!(one(new), ("c.py".to_owned(), "fresh\n".to_owned()));
}

#[test]
fn what_was_only_thought_is_no_edit() {
    let thought = "<think>\nFILE: a.py\n<<<<<<< SEARCH\nno\n=======\n</think>\n\nFILE: b\n<<<<<<< WHOLE\n1\n>>>>>>> WHOLE\n";
    assert_eq!(one(spoken(thought)).0, "b");
    assert_eq!(spoken("plain"), "plain");
    assert_eq!(spoken("a draft</Thinking >\nplain"), "plain");
    assert_eq!(spoken("<reasoning>a draft that never ends"), "");
}

#[test]
fn ends_of_lines_stay_what_they_are() {
    let edit = |path: &str| format!("FILE: {path}\n<<<<<<< SEARCH\ntwo\n=======\n2\n3\n>>>>>>> REPLACE\n");
    assert_eq!(one(&edit("crlf")).1, "one\r\n2\r\n3\r\n");
    assert_eq!(one(&edit("open")).1, "one\n2\n3");
}

#[test]
fn one_edit_that_cannot_be_made_undoes_them_all_and_says_why() {
    let good = "FILE: a.py\n<<<<<<< SEARCH\none\n=======\n1\n>>>>>>> REPLACE\n";
    for (bad, why) in [
        ("FILE: a.py\n<<<<<<< SEARCH\nfour\n=======\n4\n>>>>>>> REPLACE\n", "does not stand in it"),
        ("FILE: twice\n<<<<<<< SEARCH\nx\n=======\nz\n>>>>>>> REPLACE\n", "stands in it 2 times"),
        ("FILE: none\n<<<<<<< SEARCH\nx\n=======\nz\n>>>>>>> REPLACE\n", "no such file"),
        ("FILE: ../out\n<<<<<<< WHOLE\nx\n>>>>>>> WHOLE\n", "outside"),
        ("FILE: a.py\n<<<<<<< SEARCH\n\n=======\nz\n>>>>>>> REPLACE\n", "nothing between"),
        ("FILE: a.py\n<<<<<<< SEARCH\none\n=======\n1\n", "no clear end"),
        ("FILE: a.py\n<<<<<<< SEARCH\none\n=======\n1\n=======\n2\n>>>>>>> REPLACE\n", "no clear end"),
        ("FILE: a.py\n<<<<<<< WHOLE\none\n", "no clear end"),
    ] {
        let error = made(&format!("{good}{bad}")).unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
    assert!(made("It is so:\n<<<<<<< WHOLE\nx\n>>>>>>> WHOLE\n").unwrap_err().contains("names no file"));
    let many: String =
        (0..=MAX_FILES).map(|n| format!("FILE: f{n}\n<<<<<<< WHOLE\n{n}\n>>>>>>> WHOLE\n")).collect();
    assert!(made(&many).unwrap_err().contains("more than"));
}

#[test]
fn words_alone_are_no_edit_and_no_bytes_panic() {
    for words in ["", "I think it is fine.\n=======\n>>>>>>> REPLACE"] {
        assert_eq!(parse(words), Ok(Vec::new()), "{words}");
    }
    assert!(parse("FILE: a.py\n```\nx\n```").unwrap_err().contains("without an edit"));
    proptest::proptest!(|(lines in proptest::collection::vec(
        proptest::sample::select(vec!["FILE: a.py", "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE",
            "<<<<<<< WHOLE", ">>>>>>> WHOLE", "one", "", "häh", "`FILE:`"]), 0..20))| {
        drop(made(&lines.join("\n")));
    });
}
