//! How many flows may be open: in all, and by client address.
//!
//! The count is taken when a flow is opened and closed, never for a datagram of an open flow.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

/// The limits of all threads of a proxy, and the flows that are open.
#[derive(Debug)]
pub struct FlowLimits {
    most: usize,
    per_client: usize,
    open: Mutex<OpenFlows>,
}

#[derive(Debug, Default)]
struct OpenFlows {
    all: usize,
    by_client: HashMap<IpAddr, usize, RandomState>,
}

/// Permission for one flow, until it is dropped.
#[derive(Debug)]
pub struct FlowPermit {
    client: IpAddr,
    limits: Arc<FlowLimits>,
}

impl FlowLimits {
    /// At most `most` flows, and at most `per_client` of one IP address.
    pub fn new(most: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            per_client,
            open: Mutex::default(),
        })
    }

    /// A permit for a flow of `client`, unless a limit is reached. An open flow is never closed in favour of a new one: a
    /// sender of many source addresses would close those of all others.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<FlowPermit> {
        let client = client.to_canonical();
        let mut open = self.open();
        if open.all >= self.most {
            return None;
        }
        let flows = open.by_client.get(&client).copied().unwrap_or(0);
        if flows >= self.per_client {
            return None;
        }
        open.by_client.insert(client, flows + 1);
        open.all += 1;
        let limits = Arc::clone(self);
        Some(FlowPermit { client, limits })
    }

    /// Most flows in all.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A thread that panicked left the counts consistent.
    fn open(&self) -> MutexGuard<'_, OpenFlows> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FlowPermit {
    fn drop(&mut self) {
        let mut open = self.limits.open();
        open.all = open.all.saturating_sub(1);
        if let Some(flows) = open.by_client.get_mut(&self.client) {
            *flows = flows.saturating_sub(1);
            if *flows == 0 {
                open.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn limits_are_never_exceeded_and_nothing_remains(
            acts in prop::collection::vec((any::<bool>(), 0u8..4, any::<prop::sample::Index>()), 0..200),
        ) {
            let limits = FlowLimits::new(6, 3);
            let mut permits: Vec<FlowPermit> = Vec::new();
            for (opens, client, which) in acts {
                let address = IpAddr::from([192, 0, 2, client]);
                if opens {
                    let of_client = permits.iter().filter(|permit| permit.client == address).count();
                    let permit = limits.take(address);
                    prop_assert_eq!(permit.is_some(), permits.len() < 6 && of_client < 3);
                    permits.extend(permit);
                } else if !permits.is_empty() {
                    permits.remove(which.index(permits.len()));
                }
            }
            permits.clear();
            let open = limits.open();
            prop_assert!(open.all == 0 && open.by_client.is_empty());
        }
    }

    #[test]
    fn mapped_address_is_the_client_of_its_ipv4_address() {
        let limits = FlowLimits::new(2, 1);
        let _permit = limits.take("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert!(limits.take("192.0.2.1".parse().unwrap()).is_none());
        assert!(limits.take("192.0.2.2".parse().unwrap()).is_some());
    }
}
