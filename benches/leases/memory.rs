//! A process's resident memory.

/// Bytes of a process that are in memory now, from /proc.
pub fn resident(id: u32) -> u64 {
    said(id, "VmRSS:")
}

/// The most that there ever were, since its beginning or [`forget_peak`].
pub fn peak(id: u32) -> u64 {
    said(id, "VmHWM:")
}

/// The peak is what is in memory now.
pub fn forget_peak(id: u32) {
    std::fs::write(format!("/proc/{id}/clear_refs"), "5").expect("the process is ours");
}

fn said(id: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .expect("a number of kB");
    kib * 1024
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
