//! The house rules that a compiler does not check, as ordinary tests: who may use whom, names, sizes, what must not
//! be left behind. Each failure says why its rule is there; each rule is shown to be able to fail.

#[cfg(test)]
mod docs;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod source;
