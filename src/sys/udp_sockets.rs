//! Drops at the UDP sockets of other processes, from `/proc/net/udp` and `/proc/net/udp6` (proc(5)).

use std::collections::HashSet;
use std::fs;

/// Datagrams that the kernel has dropped so far at the open UDP sockets of these processes, in this network namespace. `None` if a process
/// does not exist or its files are not readable, as those of another user.
pub fn drops(processes: &[u32]) -> Option<u64> {
    let mut inodes = HashSet::new();
    for process in processes {
        let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        let links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        inodes.extend(links.filter_map(|link| inode(link.to_str()?)));
    }
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let all = tables.iter().map(|table| of_table(table, &inodes));
    Some(all.fold(0, u64::saturating_add))
}

/// The inode of `socket:[4711]`.
fn inode(link: &str) -> Option<u64> {
    let number = link.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// The drops in a table: the last field of each line. The tenth is the inode.
fn of_table(table: &str, inodes: &HashSet<u64>) -> u64 {
    let drops = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode: u64 = fields.get(9)?.parse().ok()?;
        inodes.contains(&inode).then_some(())?;
        fields.last()?.parse::<u64>().ok()
    });
    drops.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::UdpSocket;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  541: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 00000000f0e1 12
  542: 0100007F:1F91 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 00000000f0e2 7
";

    #[test]
    fn drops_of_the_sockets_are_added() {
        let of = |inodes: &[u64]| of_table(TABLE, &inodes.iter().copied().collect());
        assert_eq!((of(&[4711]), of(&[4711, 4712, 1]), of(&[])), (12, 19, 0));
        assert_eq!(inode("socket:[4711]"), Some(4711));
        assert_eq!(inode("pipe:[4711]"), None);
    }

    #[test]
    fn drops_of_a_full_socket_are_those_of_its_process() {
        let process = std::process::id();
        let before = drops(&[process]).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        // More than the default receive buffer holds.
        for _ in 0..2_000 {
            sender.send(&[0; 1_000]).unwrap();
        }
        assert!(drops(&[process]).unwrap() > before);
        assert_eq!(drops(&[u32::MAX]), None);
    }

    proptest! {
        #[test]
        fn any_table_has_a_sum(table in "[ 0-9a-fA-F:\n]{0,300}", inodes in prop::collection::hash_set(any::<u64>(), 0..4)) {
            of_table(&table, &inodes);
        }
    }
}
