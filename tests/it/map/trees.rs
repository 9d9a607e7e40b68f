//! One project in each language: the failure names the login, and the bug is two imports away.

/// What the path of the file with the bug has.
pub const DB: &str = "store";

/// A project, and what its tests print.
pub struct Tree {
    pub name: &'static str,
    pub files: &'static [(&'static str, &'static str)],
    pub failure: &'static str,
}

pub const TREES: [Tree; 5] = [
    Tree {
        name: "python",
        files: &[
            ("app/__init__.py", ""),
            (
                "app/auth.py",
                "from app.session import open_session\n\ndef login(user):\n    return open_session(user)\n",
            ),
            (
                "app/session.py",
                "from . import store\n\ndef open_session(who):\n    return store.fetch_row(who)\n",
            ),
            (
                "app/store.py",
                "def fetch_row(key):\n    return None\n\ndef pad_left(text):\n    return text\n",
            ),
            ("app/auth_forms.py", "def auth_form(user):\n    return 'login failed for auth user'\n"),
            (
                "app/auth_views.py",
                "from app.auth_forms import auth_form\n\ndef auth_view(user):\n    return auth_form(user)\n",
            ),
            ("app/auth_mail.py", "def auth_mail(user):\n    'the auth login mail of a user'\n"),
            ("app/colors.py", "def blend(a, b):\n    return a\n"),
            ("app/clock.py", "def tick():\n    return 1\n"),
            ("app/pages.py", "from app.colors import blend\n\ndef page():\n    return blend(1, 2)\n"),
            (
                "tests/test_auth.py",
                "from app.auth import login\n\ndef test_auth_login():\n    assert login('user') == 'user'\n",
            ),
        ],
        failure: "____ test_auth_login ____\n\n    def test_auth_login():\n>       assert login('user') == 'user'\nE       AssertionError: assert None == 'user'\n\ntests/test_auth.py:4: AssertionError\nFAILED tests/test_auth.py::test_auth_login - AssertionError: assert None == 'user'\n1 failed in 0.01s\n",
    },
    Tree {
        name: "rust",
        files: &[
            ("Cargo.toml", "[package]\nname = \"shop\"\nversion = \"0.1.0\"\n"),
            (
                "src/lib.rs",
                "pub mod auth;\npub mod session;\npub mod store;\npub mod auth_forms;\npub mod auth_mail;\npub mod colors;\n",
            ),
            (
                "src/auth.rs",
                "use crate::session::open_session;\n\npub fn login(user: &str) -> bool {\n    open_session(user)\n}\n",
            ),
            (
                "src/session.rs",
                "use crate::store::{self};\n\npub fn open_session(who: &str) -> bool {\n    store::fetch_row(who)\n}\n",
            ),
            ("src/store.rs", "pub fn fetch_row(key: &str) -> bool {\n    key.is_empty()\n}\n"),
            (
                "src/auth_forms.rs",
                "pub fn auth_form(user: &str) -> String {\n    format!(\"auth login of user {user}\")\n}\n",
            ),
            ("src/auth_mail.rs", "//! auth login test mail of a user\npub fn auth_mail() {}\n"),
            ("src/colors.rs", "pub fn blend() {}\n"),
            (
                "tests/auth.rs",
                "use shop::auth::login;\n\n#[test]\nfn auth_login() {\n    assert!(login(\"user\"));\n}\n",
            ),
            ("benches/auth.rs", "//! auth login bench of a user\nfn main() {}\n"),
        ],
        failure: "test auth_login ... FAILED\n\n---- auth_login stdout ----\nthread 'auth_login' panicked at tests/auth.rs:5:5:\nassertion failed: login(\"user\")\n\ntest result: FAILED. 0 passed; 1 failed\n",
    },
    Tree {
        name: "go",
        files: &[
            ("go.mod", "module example.com/shop\n\ngo 1.21\n"),
            (
                "auth/auth.go",
                "package auth\n\nimport \"example.com/shop/session\"\n\nfunc Login(user string) bool {\n\treturn session.Open(user)\n}\n",
            ),
            (
                "auth/auth_test.go",
                "package auth\n\nimport \"testing\"\n\nfunc TestAuthLogin(t *testing.T) {\n\tif !Login(\"user\") {\n\t\tt.Fatal(\"no login for user\")\n\t}\n}\n",
            ),
            (
                "session/session.go",
                "package session\n\nimport \"example.com/shop/store\"\n\nfunc Open(who string) bool {\n\treturn store.FetchRow(who)\n}\n",
            ),
            ("store/rows.go", "package store\n\nfunc FetchRow(key string) bool {\n\treturn key == \"\"\n}\n"),
            (
                "forms/auth_form.go",
                "package forms\n\n// AuthForm is the login form of auth for a user.\nfunc AuthForm() {}\n",
            ),
            (
                "mail/auth_mail.go",
                "package mail\n\n// AuthMail tells a user of the auth login.\nfunc AuthMail() {}\n",
            ),
            (
                "log/auth_log.go",
                "package log\n\n// AuthLog logs the auth login of a user.\nfunc AuthLog() {}\n",
            ),
            ("colors/colors.go", "package colors\n\nfunc Blend() {}\n"),
            (
                "web/auth_web.go",
                "package web\n\n// AuthWeb shows the login of auth to a user.\nfunc AuthWeb() {}\n",
            ),
        ],
        failure: "--- FAIL: TestAuthLogin (0.00s)\n    auth_test.go:7: no login for user\nFAIL\nFAIL\texample.com/shop/auth\t0.002s\n",
    },
    Tree {
        name: "javascript",
        files: &[
            ("package.json", "{\"name\": \"shop\"}\n"),
            (
                "lib/auth.js",
                "const { openSession } = require('./session');\n\nfunction login(user) {\n  return openSession(user);\n}\nmodule.exports = { login };\n",
            ),
            (
                "lib/session.js",
                "const store = require('./store');\n\nfunction openSession(who) {\n  return store.fetchRow(who);\n}\nmodule.exports = { openSession };\n",
            ),
            ("lib/store/index.js", "exports.fetchRow = function (key) {\n  return null;\n};\n"),
            ("lib/auth_form.js", "// the auth login form of a user\nfunction authForm() {}\n"),
            ("lib/auth_mail.js", "// the auth login mail to a user\nfunction authMail() {}\n"),
            ("lib/auth_web.js", "// the auth login page of a user\nfunction authWeb() {}\n"),
            ("lib/auth_log.js", "// the auth login log of a user\nfunction authLog() {}\n"),
            ("lib/colors.js", "function blend() {}\n"),
            (
                "test/auth.test.js",
                "const { login } = require('../lib/auth');\ntest('auth login', () => { expect(login('user')).toBe('user'); });\n",
            ),
        ],
        failure: " FAIL  test/auth.test.js\n  ✕ auth login (3 ms)\n\n  ● auth login\n\n    expect(received).toBe(expected)\n    Expected: \"user\"\n    Received: null\n\n      at Object.<anonymous> (test/auth.test.js:2:58)\n\nTests: 1 failed, 1 total\n",
    },
    Tree {
        name: "typescript",
        files: &[
            ("package.json", "{\"name\": \"shop\"}\n"),
            (
                "src/auth.ts",
                "import { openSession } from './session.js';\n\nexport function login(user: string): string | null {\n  return openSession(user);\n}\n",
            ),
            (
                "src/session.ts",
                "import type { Row } from './store';\nimport { fetchRow } from './store';\n\nexport const openSession = (who: string): Row => fetchRow(who);\n",
            ),
            (
                "src/store.ts",
                "export interface Row { key: string }\n\nexport function fetchRow(key: string): Row {\n  return { key: '' };\n}\n",
            ),
            (
                "src/auth_form.tsx",
                "// the auth login form of a user\nexport const AuthForm = () => <form />;\n",
            ),
            ("src/auth_mail.ts", "// the auth login mail to a user\nexport function authMail() {}\n"),
            ("src/auth_web.ts", "// the auth login page of a user\nexport function authWeb() {}\n"),
            ("src/auth_log.ts", "// the auth login log of a user\nexport function authLog() {}\n"),
            ("src/colors.ts", "export function blend() {}\n"),
            (
                "src/auth.spec.ts",
                "import { login } from './auth';\ntest('auth login', () => { expect(login('user')).toBe('user'); });\n",
            ),
        ],
        failure: " FAIL  src/auth.spec.ts > auth login\nAssertionError: expected null to be 'user'\n ❯ src/auth.spec.ts:2:58\n\n Tests  1 failed (1)\n",
    },
];
