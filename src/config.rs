//! The program's configuration: defaults, file, environment, flags; every fault at once.
