//! The types that every Postgres server knows by the same numbers, from its `pg_type.dat`, and their names.

use std::borrow::Cow;

use crate::proto;

/// What a cell's text is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// `t` or `f`.
    Bool,
    /// An integer that fits a double, so that JSON readers keep its digits.
    Int,
    /// An integer that may not fit a double.
    Int8,
    /// A float of either size.
    Float,
    /// Bytes, in hex or escape format.
    Bytes,
    /// JSON text.
    Json,
    /// Anything else.
    Text,
}

/// A column's type, as far as reading its cells needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// One value.
    Scalar(Scalar),
    /// An array, of any number of dimensions.
    Array {
        /// Its elements.
        element: Scalar,
        /// What stands between them: a comma, but for boxes a semicolon.
        delimiter: char,
    },
}

impl Type {
    /// The type with this OID. Enums, composites and extensions' types are text, and so are their arrays: only the
    /// server knows which of their numbers is an array, and which delimiter it has.
    #[must_use]
    pub(crate) fn of(oid: u32) -> Self {
        let scalar = |built_in: &BuiltIn| Self::Scalar(built_in.scalar);
        let array = |built_in: &BuiltIn| Self::Array {
            element: built_in.scalar,
            delimiter: built_in.delimiter(),
        };
        match find(oid) {
            Some((built_in, false)) => scalar(built_in),
            Some((built_in, true)) => array(built_in),
            None => Self::Scalar(Scalar::Text),
        }
    }
}

/// A column's description. `known` is the type's name, for a session that has looked it up.
#[must_use]
pub(crate) fn column(name: &str, oid: u32, known: Option<&str>) -> proto::Column {
    proto::Column {
        name: name.to_owned(),
        r#type: known.map_or_else(|| type_name(oid).into_owned(), str::to_owned),
    }
}

/// The type's name as in `pg_type`, arrays with brackets; `oid:NUMBER` for a type that is not built in. The one-byte
/// `"char"` keeps its quotes, for without them the word means `character`.
fn type_name(oid: u32) -> Cow<'static, str> {
    match find(oid) {
        Some((built_in, false)) => Cow::Borrowed(built_in.name),
        Some((built_in, true)) => Cow::Owned(format!("{}[]", built_in.name)),
        None => Cow::Owned(format!("oid:{oid}")),
    }
}

/// A type that was named by a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Its OID.
    pub(super) oid: u32,
    /// Whether it takes a list; none where only the server knows.
    pub(super) array: Option<bool>,
    /// What stands between the elements of a list.
    pub(super) delimiter: char,
}

/// The built-in type with this name, in Postgres's own spelling (`int4`, `_int4`) or SQL's (`integer[]`), or a number
/// as [`column`] tells it.
pub(super) fn named(name: &str) -> Option<Named> {
    let name = plain(name);
    if let Some(digits) = name.strip_prefix("oid:") {
        return digits.parse().ok().map(|oid| Named {
            oid,
            array: None,
            delimiter: ',',
        });
    }
    let (element, array) = match (name.strip_prefix('_'), name.split_once('[')) {
        (Some(element), _) => (element, true),
        // Postgres does not distinguish dimensions either: `int4[][]` is `int4[]`.
        (None, Some((element, dimensions))) => {
            let plain_brackets = format!("[{dimensions}").replace("[]", "").is_empty();
            plain_brackets.then_some((element.trim_end(), true))?
        }
        (None, None) => (name.as_str(), false),
    };
    let built_in = BUILT_IN.iter().find(|built_in| built_in.is_called(element))?;
    let oid = if array { built_in.array } else { built_in.oid };
    (oid != 0).then_some(Named {
        oid,
        array: Some(array),
        delimiter: built_in.delimiter(),
    })
}

/// A name in lower case, without its schema, with single spaces.
fn plain(name: &str) -> String {
    let words: Vec<_> = name.split_whitespace().collect();
    let name = words.join(" ").to_lowercase();
    name.strip_prefix("pg_catalog.")
        .map(str::to_owned)
        .unwrap_or(name)
}

/// A type and whether the number is its array's.
fn find(oid: u32) -> Option<(&'static BuiltIn, bool)> {
    if oid == 0 {
        return None;
    }
    let found = BUILT_IN
        .iter()
        .find(|built_in| [built_in.oid, built_in.array].contains(&oid))?;
    Some((found, found.array == oid))
}

/// A type of the server's own.
struct BuiltIn {
    scalar: Scalar,
    name: &'static str,
    oid: u32,
    /// Its array's OID; 0 where there is none.
    array: u32,
    /// What SQL calls it, beside its name.
    spellings: &'static [&'static str],
}

impl BuiltIn {
    /// The one type with a delimiter of its own is `box`, whose text has commas in it.
    const fn delimiter(&self) -> char {
        if self.oid == BOX { ';' } else { ',' }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.spellings.contains(&name)
    }
}

const BOX: u32 = 603;

const fn of(
    scalar: Scalar,
    name: &'static str,
    (oid, array): (u32, u32),
    spellings: &'static [&'static str],
) -> BuiltIn {
    BuiltIn {
        scalar,
        name,
        oid,
        array,
        spellings,
    }
}

/// Every type that a column or an argument can have: scalar, name, OID with its array's, SQL's spellings.
#[rustfmt::skip]
const BUILT_IN: [BuiltIn; 80] = [
    of(Scalar::Bool, "bool", (16, 1000), &["boolean"]),
    of(Scalar::Bytes, "bytea", (17, 1001), &[]),
    of(Scalar::Text, "\"char\"", (18, 1002), &[]),
    of(Scalar::Text, "name", (19, 1003), &[]),
    of(Scalar::Int8, "int8", (20, 1016), &["bigint"]),
    of(Scalar::Int, "int2", (21, 1005), &["smallint"]),
    of(Scalar::Text, "int2vector", (22, 1006), &[]),
    of(Scalar::Int, "int4", (23, 1007), &["integer", "int"]),
    of(Scalar::Text, "regproc", (24, 1008), &[]),
    of(Scalar::Text, "text", (25, 1009), &[]),
    of(Scalar::Int, "oid", (26, 1028), &[]),
    of(Scalar::Text, "tid", (27, 1010), &[]),
    of(Scalar::Text, "xid", (28, 1011), &[]),
    of(Scalar::Text, "cid", (29, 1012), &[]),
    of(Scalar::Text, "oidvector", (30, 1013), &[]),
    of(Scalar::Json, "json", (114, 199), &[]),
    of(Scalar::Text, "xml", (142, 143), &[]),
    of(Scalar::Text, "point", (600, 1017), &[]),
    of(Scalar::Text, "lseg", (601, 1018), &[]),
    of(Scalar::Text, "path", (602, 1019), &[]),
    of(Scalar::Text, "box", (603, 1020), &[]),
    of(Scalar::Text, "polygon", (604, 1027), &[]),
    of(Scalar::Text, "line", (628, 629), &[]),
    of(Scalar::Text, "cidr", (650, 651), &[]),
    of(Scalar::Float, "float4", (700, 1021), &["real"]),
    of(Scalar::Float, "float8", (701, 1022), &["double precision", "float"]),
    of(Scalar::Text, "unknown", (705, 0), &[]),
    of(Scalar::Text, "circle", (718, 719), &[]),
    of(Scalar::Text, "macaddr8", (774, 775), &[]),
    of(Scalar::Text, "money", (790, 791), &[]),
    of(Scalar::Text, "macaddr", (829, 1040), &[]),
    of(Scalar::Text, "inet", (869, 1041), &[]),
    of(Scalar::Text, "aclitem", (1033, 1034), &[]),
    of(Scalar::Text, "bpchar", (1042, 1014), &["character", "char"]),
    of(Scalar::Text, "varchar", (1043, 1015), &["character varying"]),
    of(Scalar::Text, "date", (1082, 1182), &[]),
    of(Scalar::Text, "time", (1083, 1183), &["time without time zone"]),
    of(Scalar::Text, "timestamp", (1114, 1115), &["timestamp without time zone"]),
    of(Scalar::Text, "timestamptz", (1184, 1185), &["timestamp with time zone"]),
    of(Scalar::Text, "interval", (1186, 1187), &[]),
    of(Scalar::Text, "timetz", (1266, 1270), &["time with time zone"]),
    of(Scalar::Text, "bit", (1560, 1561), &[]),
    of(Scalar::Text, "varbit", (1562, 1563), &["bit varying"]),
    of(Scalar::Text, "numeric", (1700, 1231), &["decimal", "dec"]),
    of(Scalar::Text, "refcursor", (1790, 2201), &[]),
    of(Scalar::Text, "regprocedure", (2202, 2207), &[]),
    of(Scalar::Text, "regoper", (2203, 2208), &[]),
    of(Scalar::Text, "regoperator", (2204, 2209), &[]),
    of(Scalar::Text, "regclass", (2205, 2210), &[]),
    of(Scalar::Text, "regtype", (2206, 2211), &[]),
    of(Scalar::Text, "record", (2249, 2287), &[]),
    of(Scalar::Text, "cstring", (2275, 1263), &[]),
    of(Scalar::Text, "void", (2278, 0), &[]),
    of(Scalar::Text, "uuid", (2950, 2951), &[]),
    of(Scalar::Text, "txid_snapshot", (2970, 2949), &[]),
    of(Scalar::Text, "pg_lsn", (3220, 3221), &[]),
    of(Scalar::Text, "tsvector", (3614, 3643), &[]),
    of(Scalar::Text, "tsquery", (3615, 3645), &[]),
    of(Scalar::Text, "gtsvector", (3642, 3644), &[]),
    of(Scalar::Text, "regconfig", (3734, 3735), &[]),
    of(Scalar::Text, "regdictionary", (3769, 3770), &[]),
    of(Scalar::Json, "jsonb", (3802, 3807), &[]),
    of(Scalar::Text, "int4range", (3904, 3905), &[]),
    of(Scalar::Text, "numrange", (3906, 3907), &[]),
    of(Scalar::Text, "tsrange", (3908, 3909), &[]),
    of(Scalar::Text, "tstzrange", (3910, 3911), &[]),
    of(Scalar::Text, "daterange", (3912, 3913), &[]),
    of(Scalar::Text, "int8range", (3926, 3927), &[]),
    of(Scalar::Text, "jsonpath", (4072, 4073), &[]),
    of(Scalar::Text, "regnamespace", (4089, 4090), &[]),
    of(Scalar::Text, "regrole", (4096, 4097), &[]),
    of(Scalar::Text, "regcollation", (4191, 4192), &[]),
    of(Scalar::Text, "int4multirange", (4451, 6150), &[]),
    of(Scalar::Text, "nummultirange", (4532, 6151), &[]),
    of(Scalar::Text, "tsmultirange", (4533, 6152), &[]),
    of(Scalar::Text, "tstzmultirange", (4534, 6153), &[]),
    of(Scalar::Text, "datemultirange", (4535, 6155), &[]),
    of(Scalar::Text, "int8multirange", (4536, 6157), &[]),
    of(Scalar::Text, "pg_snapshot", (5038, 5039), &[]),
    of(Scalar::Text, "xid8", (5069, 271), &[]),
];
