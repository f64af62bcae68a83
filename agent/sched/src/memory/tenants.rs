//! How much of a device each tenant holds, may hold and is promised, to the byte.

use std::collections::BTreeMap;

/// What a tenant is entitled to on one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entitlement {
    /// Bytes that are kept free for it while it does not use them.
    pub guaranteed: u64,
    /// Bytes it never exceeds; `None`: whatever is free.
    pub limit: Option<u64>,
}

/// What a tenant holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Its terms.
    pub entitled: Entitlement,
    /// Bytes in its blocks, rounded up to granules.
    pub used: u64,
    /// The most it ever held.
    pub peak: u64,
    /// Blocks it holds.
    pub blocks: u64,
}

/// Why an entitlement is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntitlementError {
    /// The guarantee is above the limit.
    #[error("tenant {tenant}: guaranteed {guaranteed} bytes is above the limit of {limit}")]
    AboveLimit {
        /// Whose.
        tenant: u32,
        /// What was asked.
        guaranteed: u64,
        /// The limit given with it.
        limit: u64,
    },
    /// The guarantees add up to more than there is, or than is free of what others hold.
    #[error("tenant {tenant}: {promised} bytes would be promised and {free} can be: promise less")]
    Overpromised {
        /// Whose.
        tenant: u32,
        /// Bytes to be kept free then.
        promised: u64,
        /// Bytes that are free.
        free: u64,
    },
}

/// Why a tenant gets nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Nobody declared the tenant.
    #[error("tenant {0} is not declared on this device: declare its entitlement first")]
    Unknown(u32),
    /// The limit would be exceeded.
    #[error("tenant {tenant} holds {used} bytes of {limit}: {asked} more exceed its limit")]
    Limit {
        /// Whose.
        tenant: u32,
        /// Bytes held.
        used: u64,
        /// Bytes asked for, in whole granules.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// What is free is promised to others.
    #[error("{asked} bytes asked for: of {free} free, {promised} are promised to other tenants")]
    Promised {
        /// Bytes asked for, in whole granules.
        asked: u64,
        /// Bytes free.
        free: u64,
        /// Bytes kept for others.
        promised: u64,
    },
}

/// The tenants of one device.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenants {
    accounts: BTreeMap<u32, Account>,
    /// Bytes promised and not used, over all tenants.
    unmet: u64,
}

// === impl Account ===

impl Account {
    fn unmet(&self) -> u64 {
        self.entitled.guaranteed.saturating_sub(self.used)
    }
}

// === impl Tenants ===

impl Tenants {
    pub(crate) fn declare(
        &mut self,
        tenant: u32,
        entitled: Entitlement,
        free: u64,
    ) -> Result<(), EntitlementError> {
        if let Some(limit) = entitled.limit.filter(|l| *l < entitled.guaranteed) {
            return Err(EntitlementError::AboveLimit {
                tenant,
                guaranteed: entitled.guaranteed,
                limit,
            });
        }
        let old = self.account(tenant).unwrap_or_default();
        let new = Account { entitled, ..old };
        let others = self.unmet - old.unmet();
        let promised = others.saturating_add(new.unmet());
        if promised > free && new.unmet() > old.unmet() {
            return Err(EntitlementError::Overpromised {
                tenant,
                promised,
                free,
            });
        }
        self.unmet = promised;
        self.accounts.insert(tenant, new);
        Ok(())
    }

    pub(crate) fn account(&self, tenant: u32) -> Option<Account> {
        self.accounts.get(&tenant).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Account)> {
        self.accounts.iter().map(|(t, a)| (*t, a))
    }

    pub(crate) fn promised(&self) -> u64 {
        self.unmet
    }

    /// Whether a tenant may have `asked` bytes more of the `free` ones.
    pub(crate) fn check(&self, tenant: u32, asked: u64, free: u64) -> Result<(), QuotaError> {
        let account = self.accounts.get(&tenant);
        let account = account.ok_or(QuotaError::Unknown(tenant))?;
        let used = account.used;
        if let Some(limit) = account.entitled.limit
            && used.saturating_add(asked) > limit
        {
            return Err(QuotaError::Limit {
                tenant,
                used,
                asked,
                limit,
            });
        }
        let promised = self.unmet - account.unmet();
        let own = account.unmet().saturating_sub(asked);
        if asked <= free && free - asked < promised.saturating_add(own) {
            return Err(QuotaError::Promised {
                asked,
                free,
                promised,
            });
        }
        Ok(())
    }

    /// Enters a block.
    pub(crate) fn enter(&mut self, tenant: u32, bytes: u64) {
        let account = self.accounts.entry(tenant).or_default();
        self.unmet -= account.unmet();
        account.used += bytes;
        account.blocks += 1;
        account.peak = account.peak.max(account.used);
        self.unmet += account.unmet();
    }

    /// Strikes a block out.
    pub(crate) fn strike(&mut self, tenant: u32, bytes: u64) {
        let account = self.accounts.entry(tenant).or_default();
        self.unmet -= account.unmet();
        account.used = account.used.saturating_sub(bytes);
        account.blocks = account.blocks.saturating_sub(1);
        self.unmet += account.unmet();
    }
}
