//! Ready-made sensors, embedded in the program.

macro_rules! table {
    ($($name:literal $file:literal)*) => {
        /// All examples as name and script, sorted by name.
        pub const ALL: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../sensors-examples/", $file)))),*];
    };
}

table! {
    "calendar-ics" "calendar-ics.py"
    "disk" "disk.sh"
    "folder" "folder.sh"
    "git-repos" "git-repos.sh"
    "github-ci" "github-ci.sh"
    "github-comments" "github-comments.sh"
    "github-issues" "github-issues.sh"
    "github-prs" "github-prs.sh"
    "grafana-alerts" "grafana-alerts.sh"
    "http-health" "http-health.sh"
    "kubernetes-pods" "kubernetes-pods.sh"
    "linear" "linear.sh"
    "load" "load.sh"
    "maildir" "maildir.sh"
    "memory" "memory.sh"
    "prometheus" "prometheus.sh"
    "rss" "rss.py"
    "systemd-units" "systemd-units.sh"
    "todo-txt" "todo-txt.sh"
    "webhook-inbox" "webhook-inbox.sh"
}

/// Returns the script of an example.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, script)| *script)
}
