//! Tests of edits in answers.

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
fn a_part_is_replaced_with_any_decoration_of_the_answer() {
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
fn whole_files_work_and_later_edits_see_earlier_ones() {
    let whole = "FILE: new/b.py\n<<<<<<< WHOLE\n=======\n```\nx\n>>>>>>> WHOLE\n";
    assert_eq!(one(whole), ("new/b.py".to_owned(), "=======\n```\nx\n".to_owned()));
    let two = "FILE: a.py\n<<<<<<< SEARCH\none\n=======\n1\n>>>>>>> REPLACE\n<<<<<<< SEARCH\n1\n=======\n>>>>>>> REPLACE\n";
    assert_eq!(one(two), ("a.py".to_owned(), "  two \nthree\n".to_owned()));
    let new = "FILE: c.py\n<<<<<<< SEARCH\n=======\nfresh\n>>>>>>> REPLACE\n";
    assert_eq!(one(new), ("c.py".to_owned(), "fresh\n".to_owned()));
}

#[test]
fn edits_in_thoughts_are_ignored() {
    let thought = "<think>\nFILE: a.py\n<<<<<<< SEARCH\nno\n=======\n</think>\n\nFILE: b\n<<<<<<< WHOLE\n1\n>>>>>>> WHOLE\n";
    assert_eq!(one(spoken(thought)).0, "b");
    assert_eq!(spoken("plain"), "plain");
    assert_eq!(spoken("a draft</Thinking >\nplain"), "plain");
    assert_eq!(spoken("<reasoning>a draft that never ends"), "");
}

#[test]
fn line_ends_are_kept() {
    let edit = |path: &str| format!("FILE: {path}\n<<<<<<< SEARCH\ntwo\n=======\n2\n3\n>>>>>>> REPLACE\n");
    assert_eq!(one(&edit("crlf")).1, "one\r\n2\r\n3\r\n");
    assert_eq!(one(&edit("open")).1, "one\n2\n3");
}

#[test]
fn one_bad_edit_rejects_all_and_gives_the_cause() {
    let good = "FILE: a.py\n<<<<<<< SEARCH\none\n=======\n1\n>>>>>>> REPLACE\n";
    for (bad, why) in [
        ("FILE: a.py\n<<<<<<< SEARCH\nfour\n=======\n4\n>>>>>>> REPLACE\n", "do not occur in it"),
        ("FILE: twice\n<<<<<<< SEARCH\nx\n=======\nz\n>>>>>>> REPLACE\n", "occur 2 times in it"),
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
fn text_without_edits_gives_none_and_random_bytes_never_panic() {
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

fn whole_edit(path: &str) -> String {
    format!("FILE: {path}\n<<<<<<< WHOLE\nnew\n>>>>>>> WHOLE\n")
}

#[test]
fn nothing_is_written_if_one_edit_leads_out_of_the_project() {
    let tmp = tempfile::tempdir().unwrap();
    let top = tmp.path().join("work");
    let dir = top.join("sub");
    fs::create_dir_all(dir.join("folder")).unwrap();
    fs::write(dir.join("a"), "old\n").unwrap();
    fs::write(dir.join("bin"), [0xff, 0xfe]).unwrap();
    std::os::unix::fs::symlink(tmp.path(), dir.join("link")).unwrap();
    std::os::unix::fs::symlink(tmp.path().join("aim"), dir.join("leaf")).unwrap();
    let absolute = tmp.path().join("out").to_string_lossy().into_owned();
    for bad in [
        "../../out",
        absolute.as_str(),
        "x/../../../out",
        ".git/hooks/pre-commit",
        "folder/.GIT/config",
        "link/out",
        "leaf",
        "folder",
        "bin",
        "a/b",
        "x\ty",
    ] {
        let answer = format!("{}{}", whole_edit("a"), whole_edit(bad));
        let why = make(&top, &dir, &answer).unwrap().unwrap_err();
        assert!(why.contains("none of its edits"), "{bad}: {why}");
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "old\n", "{bad}");
        assert!(!tmp.path().join("out").exists() && !tmp.path().join("aim").exists(), "{bad}");
    }
    fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    make(&top, &dir, &(whole_edit("a") + &whole_edit("deep/er/b"))).unwrap().unwrap();
    assert_eq!(fs::read_to_string(dir.join("deep/er/b")).unwrap(), "new\n");
    let mode = fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777;
    assert_eq!((fs::read_to_string(dir.join("a")).unwrap().as_str(), mode), ("new\n", 0o755));
}

#[test]
fn a_write_error_undoes_the_other_edits() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("a"), "old\n").unwrap();
    // Neither file exists before, so that the error appears only when the second one is written.
    let answer = whole_edit("a") + &whole_edit("b") + &whole_edit("b/c");
    assert!(make(tmp.path(), tmp.path(), &answer).unwrap().is_err());
    assert_eq!(fs::read_to_string(tmp.path().join("a")).unwrap(), "old\n");
    assert!(!tmp.path().join("b").exists());
}
