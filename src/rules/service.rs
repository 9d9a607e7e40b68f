//! Pure. Service files: a systemd unit and a launchd agent for the pulse, a cron line for beats.

use super::text::in_shell;

/// A text in each file that looop writes, by which it recognizes its own files.
pub const MARK: &str = "Written by looop service";

/// The data of a service file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// The program's absolute path.
    pub program: String,
    /// The environment variables.
    pub env: Vec<(String, String)>,
    /// An optional file of `NAME=value` lines with more variables.
    pub env_file: String,
    /// The file for its output, if the service manager does not keep it.
    pub log: String,
}

impl Service {
    /// Returns the first value that a service file cannot contain, because a control character would end the line.
    pub fn flaw(&self) -> Option<&str> {
        let values = self.env.iter().flat_map(|(key, value)| [key, value]);
        let all = values.chain([&self.name, &self.program, &self.env_file, &self.log]);
        all.into_iter().find(|text| text.chars().any(char::is_control)).map(String::as_str)
    }

    /// True if systemd cannot start a program with this path, however it is quoted.
    pub fn is_odd_for_systemd(&self) -> bool {
        self.program.contains(['"', '\'', '\\'])
    }

    /// A unit for systemd's user manager, as in systemd.service(5) and systemd.syntax(7).
    pub fn systemd(&self) -> String {
        let line = |(key, value): &_| format!("Environment={}\n", in_unit(&format!("{key}={value}")));
        let env = self.env.iter().map(line);
        format!(
            include_str!("service.unit"),
            mark = MARK,
            name = self.name,
            program = in_unit(&self.program),
            env = env.collect::<String>(),
            env_file = self.env_file.replace('%', "%%"),
        )
    }

    /// A property list for launchd, as in launchd.plist(5).
    pub fn launchd(&self) -> String {
        let env = self.env.iter().map(|(key, value)| {
            format!("    <key>{}</key>\n    <string>{}</string>\n", in_xml(key), in_xml(value))
        });
        format!(
            include_str!("service.plist"),
            mark = MARK,
            label = in_xml(&self.label()),
            program = in_xml(&self.program),
            env = env.collect::<String>(),
            log = in_xml(&self.log),
        )
    }

    /// The name of the service in launchd.
    pub fn label(&self) -> String {
        format!("local.{}", self.name)
    }

    /// A line for crontab(5) that runs one beat a minute, and a comment line before it.
    pub fn cron(&self) -> String {
        let env = self.env.iter().map(|(key, value)| format!("{key}={} ", in_shell(value)));
        let folder = self.log.rsplit_once('/').map_or("/", |(folder, _)| folder);
        let command = format!(
            "mkdir -p {} && {}{} tick --quiet >> {} 2>&1",
            in_shell(folder),
            env.collect::<String>(),
            in_shell(&self.program),
            in_shell(&self.log)
        );
        // In crontab, an unescaped `%` starts the command's input, even within quotes.
        format!("# {MARK}: one beat a minute ({}).\n* * * * * {}\n", self.name, command.replace('%', "\\%"))
    }
}

/// Quotes one word for a unit file. An unescaped `%` would start a specifier, which systemd replaces.
fn in_unit(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

fn in_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service {
            name: "looop-a".to_owned(),
            program: "/home/a b/100%/it's/\"q\"\\looop".to_owned(),
            env: vec![("PATH".to_owned(), "/x y:/50%:<&>".to_owned())],
            env_file: "/home/a b/100%/looop.env".to_owned(),
            log: "/home/a b/l%.log".to_owned(),
        }
    }

    #[test]
    fn each_format_quotes_as_its_reader_expects() {
        let unit = service().systemd();
        for line in [
            "ExecStart=\"/home/a b/100%%/it's/\\\"q\\\"\\\\looop\" --color never",
            "Environment=\"PATH=/x y:/50%%:<&>\"",
            "EnvironmentFile=-/home/a b/100%%/looop.env",
            "KillMode=process",
        ] {
            assert!(unit.lines().any(|known| known == line), "{line}: {unit}");
        }
        let plist = service().launchd();
        assert!(plist.contains("<string>/x y:/50%:&lt;&amp;&gt;</string>"), "{plist}");
        let cron = service().cron();
        let line = "* * * * * mkdir -p '/home/a b' && PATH='/x y:/50\\%:<&>' '/home/a b/100\\%/it'\\''s/\"q\"\\looop' tick --quiet >> '/home/a b/l\\%.log' 2>&1";
        assert_eq!(cron.lines().nth(1), Some(line));
        assert!([unit, plist, cron].iter().all(|text| text.contains(MARK)));
    }

    #[test]
    fn values_that_no_line_can_contain_are_found() {
        assert_eq!((service().flaw(), service().is_odd_for_systemd()), (None, true));
        let odd = Service { program: "/a\nb".to_owned(), ..service() };
        assert_eq!(odd.flaw(), Some("/a\nb"));
    }
}
