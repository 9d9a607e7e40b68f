//! A strict reader of terminal output, for the tests of the renderer and the fuzz targets.

/// Reads terminal output byte by byte. It knows the sequences that a frame may hold, and reports every other one.
pub fn forbidden(out: &str) -> Option<String> {
    const MODES: [&str; 9] = ["?1", "?9", "?25", "?1000", "?1002", "?1003", "?1005", "?1006", "?2004"];
    let mut rest = out;
    while let Some(c) = rest.chars().next() {
        let bad = || Some(format!("{:?}", rest.chars().take(20).collect::<String>()));
        rest = &rest[c.len_utf8()..];
        if c == '\x07' || !(c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)) {
            continue;
        }
        if c != '\x1b' {
            return bad();
        }
        if let Some(after) = rest.strip_prefix(['=', '>']) {
            rest = after;
            continue;
        }
        let Some(body) = rest.strip_prefix('[') else { return bad() };
        let Some(end) = body.find(|c: char| !(c.is_ascii_digit() || ";? ".contains(c))) else { return bad() };
        let (params, last) = (&body[..end], &body[end..=end]);
        let numbers = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == ';');
        let allowed = match last {
            "H" | "m" => numbers(params),
            "J" => params == "2",
            "h" | "l" => MODES.contains(&params),
            "q" => params.strip_suffix(' ').is_some_and(numbers),
            _ => false,
        };
        if !allowed {
            return bad();
        }
        rest = &body[end + 1..];
    }
    None
}
