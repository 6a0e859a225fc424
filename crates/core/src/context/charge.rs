//! What a context owes: what its attempts used, and once the price of a call.

use super::{AttemptReport, Head};
use crate::models::call_price::DEFAULT_CURRENCY;
use crate::models::spent::Spent;

impl Head {
    /// Adds what an attempt used. The price of a call is that of the service that was called last.
    pub(super) fn take_charge(&mut self, report: &AttemptReport) {
        // An attempt without a call has no price, and names the service of the one before.
        if report.price.is_some() || report.service != self.admission.service {
            self.admission.price.clone_from(&report.price);
        }
        self.add_spent(report.spent.as_deref());
        if let Some(stated) = &report.stated {
            let currency = self.admission.price.as_ref().map_or(DEFAULT_CURRENCY, |price| &price.currency);
            self.add_spent(Some(&stated.spent(currency)));
        }
    }

    pub(super) fn add_spent(&mut self, spent: Option<&Spent>) {
        if let Some(spent) = spent {
            self.spent.get_or_insert_default().add(spent.clone());
        }
    }

    /// Adds the price of a call, which a context owes once.
    pub(super) fn owe_price(&mut self, estimated: bool) {
        if let Some(price) = &self.admission.price {
            self.spent.get_or_insert_default().add_cost(price.cost(estimated));
        }
    }
}
