//! Who may use a session, and for how long.
