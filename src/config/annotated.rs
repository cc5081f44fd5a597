//! The default configuration as a file that explains itself.

use std::fmt::Write as _;

use super::settings::{SETTINGS, Shown};

const HEAD: &str = "\
# Sublet's configuration, with every setting at its default.
#
# Give it with `sublet serve --config FILE` or SUBLET_CONFIG. An environment variable (SUBLET_ and the setting's name
# in capitals) goes before the file, a flag goes before both. Durations are written as 500ms, 30s, 5m, 1h30m.
# `sublet config --check FILE` says what is wrong with a file.
";

/// The annotated default file. Read back, it is the default.
#[must_use]
pub fn annotated() -> String {
    let mut file = HEAD.to_owned();
    for setting in SETTINGS {
        file.push('\n');
        for line in setting.doc {
            // Writing to a String cannot fail.
            writeln!(file, "# {line}").ok();
        }
        match setting.shown {
            Shown::Default(value) => writeln!(file, "{} = {value}", setting.key).ok(),
            Shown::Example(value) => writeln!(file, "#{} = {value}", setting.key).ok(),
        };
    }
    file
}
