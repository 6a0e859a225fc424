//! Credential watch: checks the credentials of an open stream for as long as it is open, so that a stream held by a
//! Worker ends with the key, token, grant, issuer, client, role or tenant that permitted it.

use crate::platform::clock;
use crate::platform::http::Request;
use crate::platform::settings::{self, Settings};
use narthex_core::access::principal::Principal;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::Code;

use super::{Age, OwnIssuer, origin_of, presented, recognize, resource_path};

/// The permissions that a principal must keep.
#[derive(Debug, Clone)]
pub enum RequiredPermissions {
    All(Vec<String>),
    /// Permission to create any context at all.
    ToCreate,
}

impl RequiredPermissions {
    pub fn one(permission: impl Into<String>) -> Self {
        Self::All(vec![permission.into()])
    }

    fn are_granted_to(&self, principal: &Principal) -> bool {
        match self {
            Self::All(permissions) => permissions.iter().all(|permission| principal.may(permission)),
            Self::ToCreate => principal.may_create_any(),
        }
    }
}

pub struct CredentialWatch {
    presented: String,
    admin_key: String,
    /// If the gateway is an issuer: its origin, and the requested path.
    own: Option<(String, String)>,
    tenant: TenantId,
    principal: PrincipalId,
    until: Option<Timestamp>,
    needed: RequiredPermissions,
}

impl CredentialWatch {
    pub fn of(request: &Request, settings: &Settings, principal: &Principal, needed: RequiredPermissions) -> Self {
        Self {
            presented: presented(request).unwrap_or_default().into(),
            admin_key: settings.admin_key.clone().unwrap_or_default(),
            own: settings.oauth.then(|| (origin_of(request, settings), resource_path(request).into())),
            tenant: principal.tenant.clone(),
            principal: principal.principal.clone(),
            until: principal.until,
            needed,
        }
    }

    /// Returns when the credentials have ended.
    pub async fn ended(&self) {
        loop {
            let check_ms = settings::timing().credentials_check_ms;
            let left = self.until.map_or(check_ms, |until| until.since(clock::now()).min(check_ms));
            clock::pause(left).await;
            if !self.is_good().await {
                return;
            }
        }
    }

    pub async fn is_good(&self) -> bool {
        if self.until.is_some_and(|until| until <= clock::now()) {
            return false;
        }
        let own = self.own.as_ref().map(|(origin, path)| OwnIssuer { origin, path });
        match recognize(&self.presented, &self.admin_key, own, Age::Within(settings::timing().credentials_max_age_ms))
            .await
        {
            Ok((principal, _)) => {
                let same = principal.tenant == self.tenant && principal.principal == self.principal;
                same && self.needed.are_granted_to(&principal)
            }
            // An unreachable registry says nothing against the credentials.
            Err(problem) => problem.code != Code::Unauthenticated,
        }
    }
}
