//! Properties of this machine that results are judged by.

use std::fs;
use std::thread;

/// The kernel release as printed by `uname -r`; empty if /proc is unavailable.
pub fn kernel() -> String {
    line("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// The host's name; empty if /proc is unavailable.
pub fn hostname() -> String {
    line("/proc/sys/kernel/hostname").unwrap_or_default()
}

/// The model name of the first CPU; empty if unknown.
pub fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find_map(|row| row.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        .unwrap_or_default()
}

/// The number of CPUs this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The frequency governor of the first CPU, if any.
pub fn governor() -> Option<String> {
    line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
}

/// The distinct frequency governors of these CPUs; empty if there are none.
pub fn governors(cpus: &[usize]) -> Vec<String> {
    let of = |cpu| {
        line(&format!(
            "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
        ))
    };
    let mut names: Vec<String> = cpus.iter().filter_map(of).collect();
    names.sort();
    names.dedup();
    names
}

/// The CPUs of this machine in the kernel's list format, for example `0-3`.
pub fn cpus_present() -> Option<String> {
    line("/sys/devices/system/cpu/present")
}

/// Whether this is a virtual machine, according to the CPU flags.
pub fn is_virtual() -> bool {
    flags_name_hypervisor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

fn flags_name_hypervisor(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|row| row.starts_with("flags"));
    flags.is_some_and(|row| row.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// The current clock source of the kernel.
pub fn clock_source() -> Option<String> {
    line("/sys/devices/system/clocksource/clocksource0/current_clocksource")
}

/// The available clock sources.
pub fn clock_sources() -> Vec<String> {
    let names = line("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    let names = names.unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

/// A numeric sysctl(8), for example `net.core.rmem_max`; `None` if it does not exist or is not a number.
pub fn sysctl(name: &str) -> Option<u64> {
    line(&format!("/proc/sys/{}", name.replace('.', "/")))?
        .parse()
        .ok()
}

/// The largest receive buffer for unprivileged users, in bytes (socket(7)).
pub fn rmem_max() -> Option<u64> {
    sysctl("net.core.rmem_max")
}

/// The largest send buffer for unprivileged users, in bytes (socket(7)).
pub fn wmem_max() -> Option<u64> {
    sysctl("net.core.wmem_max")
}

/// `UdpRcvbufErrors` of this network namespace (/proc/net/snmp), IPv4 plus IPv6: datagrams dropped because the receive
/// buffer of a socket was full.
pub fn udp_receive_buffer_errors() -> Option<u64> {
    let v4 = snmp_udp(&fs::read_to_string("/proc/net/snmp").ok()?)?;
    let v6 = fs::read_to_string("/proc/net/snmp6")
        .ok()
        .and_then(|text| snmp6_udp(&text));
    Some(v4 + v6.unwrap_or(0))
}

fn snmp_udp(text: &str) -> Option<u64> {
    let mut rows = text.lines().filter_map(|row| row.strip_prefix("Udp: "));
    let column = rows
        .next()?
        .split(' ')
        .position(|name| name == "RcvbufErrors")?;
    rows.next()?.split(' ').nth(column)?.parse().ok()
}

fn snmp6_udp(text: &str) -> Option<u64> {
    let row = text
        .lines()
        .find_map(|row| row.strip_prefix("Udp6RcvbufErrors"))?;
    row.trim().parse().ok()
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypervisor_is_a_whole_flag() {
        let info = |flags: &str| format!("model name\t: X\nflags\t\t: fpu {flags} sse\n");
        assert!(flags_name_hypervisor(&info("hypervisor")));
        assert!(!flags_name_hypervisor(&info("no_hypervisor_at_all")));
        assert!(!flags_name_hypervisor("hypervisor\n"));
    }

    #[test]
    fn snmp_tables_are_read_by_column_name() {
        let v4 = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts RcvbufErrors SndbufErrors\nUdp: 9 8 7 6\nUdpLite: InDatagrams\nUdpLite: 0\n";
        assert_eq!(snmp_udp(v4), Some(7));
        assert_eq!(snmp_udp("Udp: InDatagrams\nUdp: 1\n"), None);
        assert_eq!(
            snmp6_udp("Udp6InDatagrams \t4\nUdp6RcvbufErrors   \t12\n"),
            Some(12)
        );
    }
}
