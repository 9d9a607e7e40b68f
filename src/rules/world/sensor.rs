//! Pure. The header of a sensor: `# looop: interval=300s timeout=20s trust=untrusted env=GH_TOKEN write=~/.cache/gh`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::rules::time::parse_ms;
use crate::rules::world::Trust;

/// The directives in a sensor's header; all times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SensorHeader {
    /// The shortest interval between two runs; `None`: it runs in each beat.
    pub interval_ms: Option<i64>,
    /// Its timeout; `None`: the default in the config.
    pub timeout_ms: Option<i64>,
    /// Whether its output is trusted.
    pub trust: Trust,
    /// Names of environment variables that it gets besides the usual ones.
    pub env: Vec<String>,
    /// Paths that it may write besides its own temporary directory.
    pub write: Vec<String>,
}

/// The comment marks before a directive: shells and scripts, C-like languages, SQL and Lua.
const MARKS: [&str; 4] = ["#", "//", "--", ";"];
/// How many lines are searched for directives.
const MAX_LINES: usize = 40;
/// How much of a sensor is searched for directives, in bytes.
pub const HEAD_BYTES: usize = 4096;
/// The longest `#!` line, in bytes; looop's stamp comes after it and must be within the head.
const FIRST_LINE_BYTES: usize = 1024;

impl SensorHeader {
    /// Parses the directives in the first lines of a sensor; only the head counts. Bytes that are not text contain no
    /// directives.
    ///
    /// # Errors
    /// Names the unknown directive, or reports a first line that is too long. Such a sensor is not run.
    pub fn parse(script: &[u8]) -> Result<SensorHeader, String> {
        let head = &script[..script.len().min(HEAD_BYTES)];
        let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if first.starts_with(b"#!") && first.len() > FIRST_LINE_BYTES {
            return Err(format!("its first line is longer than {FIRST_LINE_BYTES} bytes"));
        }
        let mut header = SensorHeader::default();
        // Ignore a last line that continues after the head.
        let whole = match head.iter().rposition(|byte| *byte == b'\n') {
            Some(end) if head.len() == HEAD_BYTES => &head[..end],
            _ => head,
        };
        let text = String::from_utf8_lossy(whole);
        for line in text.lines().take(MAX_LINES) {
            let Some(rest) = MARKS.iter().find_map(|mark| line.trim_start().strip_prefix(mark)) else {
                continue;
            };
            let Some(directives) = rest.trim_start().strip_prefix("looop:") else { continue };
            for directive in directives.split_whitespace() {
                header.set(directive)?;
            }
        }
        Ok(header)
    }

    fn set(&mut self, directive: &str) -> Result<(), String> {
        let (key, value) = directive.split_once('=').unwrap_or((directive, ""));
        match key {
            "interval" => self.interval_ms = Some(parse_ms(value)?),
            "timeout" => self.timeout_ms = Some(parse_ms(value)?),
            "trust" => {
                self.trust = match value {
                    // looop's stamp comes first, and a later directive cannot revoke it.
                    "trusted" => self.trust,
                    "untrusted" => Trust::Untrusted,
                    _ => return Err(format!("`trust={value}` is neither `trusted` nor `untrusted`")),
                }
            }
            "env" => self.env.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            "write" => self.write.extend(value.split(',').filter(|path| !path.is_empty()).map(str::to_owned)),
            _ => {
                return Err(format!(
                    "`{key}` is not a directive; known are interval, timeout, trust, env, write"
                ));
            }
        }
        Ok(())
    }
}

/// Marks a script as untrusted, after its `#!` line, unless it is marked already.
///
/// # Errors
/// As [`SensorHeader::parse`]: such a script would not be run.
pub fn stamp_untrusted(script: &str) -> Result<String, String> {
    if SensorHeader::parse(script.as_bytes())?.trust == Trust::Untrusted {
        return Ok(script.to_owned());
    }
    let (first, rest) = script.split_once('\n').unwrap_or((script, ""));
    Ok(format!("{first}\n# looop: trust=untrusted\n{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read() {
        let header = SensorHeader::parse(
            b"#!/bin/sh\n# looop: interval=300s timeout=20s\n# looop: trust=untrusted env=A,B write=~/x\n",
        )
        .unwrap();
        assert_eq!(header.interval_ms, Some(300_000));
        assert_eq!(header.timeout_ms, Some(20_000));
        assert_eq!(header.trust, Trust::Untrusted);
        assert_eq!(header.env, ["A", "B"]);
        assert_eq!(header.write, ["~/x"]);
        assert_eq!(SensorHeader::parse(b"\x7fELF\0\0# looop"), Ok(SensorHeader::default()));
    }

    #[test]
    fn an_unknown_directive_is_an_error() {
        for bad in ["# looop: intervall=3s", "# looop: trust=yes", "// looop: timeout=soon"] {
            assert!(SensorHeader::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stamp_overrides_the_script() {
        let behind = |bytes: usize| format!("#!/bin/sh\n#{}\n# looop: trust=untrusted\n", "x".repeat(bytes));
        let scripts = ["#!/bin/sh\n# looop: trust=trusted\necho {}\n", "#!/bin/sh\necho {}", "#!/bin/sh"];
        // The script's own mark may lie anywhere around the end of the head.
        let far = (HEAD_BYTES - 50..HEAD_BYTES + 10).map(behind);
        for script in scripts.map(str::to_owned).into_iter().chain(far) {
            let stamped = stamp_untrusted(&script).unwrap();
            let head = &stamped.as_bytes()[..stamped.len().min(HEAD_BYTES)];
            assert_eq!(SensorHeader::parse(head).unwrap().trust, Trust::Untrusted, "{}", script.len());
            assert!(stamped.starts_with("#!/bin/sh\n"));
            assert_eq!(stamp_untrusted(&stamped).unwrap(), stamped);
        }
    }

    #[test]
    fn a_script_that_the_stamp_would_not_mark_is_refused() {
        for length in [1025, 4070, 4090, 4096, 5000] {
            let script = format!("#!/bin/sh{}\necho {{}}\n", " ".repeat(length - 9));
            assert!(stamp_untrusted(&script).is_err_and(|why| why.contains("first line")), "{length}");
            assert!(SensorHeader::parse(script.as_bytes()).is_err(), "{length}");
        }
        let wrong = stamp_untrusted("#!/bin/sh\n# looop: intervall=3s\n");
        assert!(wrong.is_err(), "the script would not run either");
    }
}
