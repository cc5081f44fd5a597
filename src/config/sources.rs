//! Where settings come from: a file, the environment, flags. Each gives a layer of texts, read by one set of rules.

use std::{collections::BTreeMap, ffi::OsString};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, Faults, settings};

/// The prefix of our environment variables.
const PREFIX: &str = "SUBLET_";

/// Variables with our prefix that are not settings. Kubernetes sets `SUBLET_PORT…` and `SUBLET_SERVICE_…` in every
/// pod beside a Service named sublet; pools' secrets and the file's own name are read elsewhere; the rest is for tests.
const NOT_SETTINGS: [&str; 7] = [
    "SUBLET_BIN",
    "SUBLET_SECRET_",
    "SUBLET_SERVICE_",
    "SUBLET_PORT",
    "SUBLET_CONFIG",
    "SUBLET_SOAK_",
    "SUBLET_TEST_",
];

/// Settings of one source.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub(super) entries: Vec<Entry>,
    pub(super) faults: Faults,
}

/// One setting of a layer.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// As text; none if it is a table, a list, a date, or not Unicode.
    pub(super) value: Option<String>,
    /// Where it was set.
    pub(super) source: String,
}

impl Entry {
    /// Checks the value and sets it in `config`, or says what would be right.
    pub(super) fn check(&self, config: &mut Config) -> Result<(), String> {
        let setting = settings::find(&self.key).ok_or_else(|| settings::unknown(&self.key))?;
        let value = self
            .value
            .as_deref()
            .ok_or("this must be a single piece of text, a number, true or false")?;
        (setting.set)(config, value)
    }
}

impl std::fmt::Debug for Entry {
    /// Without the value, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.key, self.source)
    }
}

impl Layer {
    /// The settings in `text`, the TOML file called `name`.
    #[must_use]
    pub fn file(name: &str, text: &str) -> Self {
        let mut layer = Self::default();
        let line_of = |offset| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut broken = BTreeMap::new();
        for error in errors {
            let line = line_of(error.span().map_or(0, |span| span.start));
            broken.entry(line).or_insert_with(|| error.message().to_owned());
        }
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let line = line_of(key.span().start);
            // What was made of a broken line would only confuse.
            if !broken.contains_key(&line) {
                layer.add(key.get_ref(), scalar(value), format!("{name}:{line}"));
            }
        }
        for (line, message) in broken {
            layer.faults.add(
                "",
                format!("{name}:{line}"),
                format!("this is not TOML: {message}"),
            );
        }
        layer
    }

    /// The settings among `variables`, the environment. An empty variable counts as unset.
    #[must_use]
    pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut layer = Self::default();
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| is_setting(name)) else {
                continue;
            };
            let key = name.trim_start_matches(PREFIX).to_ascii_lowercase();
            if !value.is_empty() {
                layer.add(&key, value.into_string().ok(), name.to_owned());
            }
        }
        layer
    }

    /// The settings among `flags`: pairs of a key and what the command line gave for it.
    #[must_use]
    pub fn flags<'a>(flags: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut layer = Self::default();
        for (key, value) in flags {
            if let Some(value) = value {
                layer.add(
                    key,
                    Some(value.to_owned()),
                    format!("--{}", key.replace('_', "-")),
                );
            }
        }
        layer
    }

    fn add(&mut self, key: &str, value: Option<String>, source: String) {
        self.entries.push(Entry {
            key: key.to_owned(),
            value,
            source,
        });
    }
}

fn is_setting(name: &str) -> bool {
    name.starts_with(PREFIX) && !NOT_SETTINGS.iter().any(|prefix| name.starts_with(prefix))
}

/// A value as text; none if it is a table, a list or a date.
fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|n| n.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
