//! What a key allows, and what a call asks for.

use std::fmt;
use std::str::FromStr;

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Read prices.
    Read = 1,
    /// Publish market events, request recalculations, and look at the tasks that come of them.
    Publish = 2,
    /// Read and change the catalogue.
    Manage = 4,
    /// Look at all tasks with the causes of their errors, replay them, and read metrics.
    Operate = 8,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Publish, Self::Manage, Self::Operate];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Publish => "publish",
            Self::Manage => "manage",
            Self::Operate => "operate",
        }
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles(u8);

/// The text names something that is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the roles are read, publish, manage and operate, with commas between them")]
pub(crate) struct UnknownRole;

impl Roles {
    pub(crate) const fn of(roles: &[Role]) -> Self {
        let (mut set, mut next) = (0, 0);
        while next < roles.len() {
            set |= roles[next] as u8;
            next += 1;
        }
        Self(set)
    }

    /// Whether the two sets share a role.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn contains(self, role: Role) -> bool {
        self.0 & role as u8 != 0
    }

    /// The names of the roles.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role)).map(Role::as_str)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Roles {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let role = |name| Role::ALL.into_iter().find(|role| role.as_str() == name).ok_or(UnknownRole);
        let roles: Result<Vec<_>, _> = text.split(',').map(role).collect();
        Ok(Self::of(&roles?))
    }
}

/// What a call asks of its caller.
pub(crate) trait Access {
    /// One of these roles.
    const ROLES: Roles;
}

/// Reads prices.
pub(crate) enum Read {}

/// Publishes events and requests recalculations.
pub(crate) enum Publish {}

/// Reads and changes the catalogue.
pub(crate) enum Manage {}

/// Looks at tasks: its own, or with [`Role::Operate`] all.
pub(crate) enum Tasks {}

/// Lists and replays tasks.
pub(crate) enum Operate {}

impl Access for Read {
    const ROLES: Roles = Roles::of(&[Role::Read]);
}

impl Access for Publish {
    const ROLES: Roles = Roles::of(&[Role::Publish]);
}

impl Access for Manage {
    const ROLES: Roles = Roles::of(&[Role::Manage]);
}

impl Access for Tasks {
    const ROLES: Roles = Roles::of(&[Role::Publish, Role::Operate]);
}

impl Access for Operate {
    const ROLES: Roles = Roles::of(&[Role::Operate]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back() {
        let roles: Roles = "operate,read".parse().unwrap();
        assert_eq!(roles.to_string(), "read,operate");
        assert!(roles.contains(Role::Read) && !roles.contains(Role::Publish));
        assert!(roles.meets(Operate::ROLES) && roles.meets(Tasks::ROLES) && !roles.meets(Publish::ROLES));
        assert_eq!("read,publish,manage,operate".parse(), Ok(Roles::of(&Role::ALL)));
        for other in ["", "reader", "read,", "read publish", "Read"] {
            assert_eq!(other.parse::<Roles>(), Err(UnknownRole), "{other:?}");
        }
    }
}
