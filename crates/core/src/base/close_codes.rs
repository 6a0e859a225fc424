//! Close codes of WebSockets (RFC 6455, section 7.4), as enums that cannot forget one.

/// Defines an enum of close codes: each with its code, its name in the contract, and the reason that is sent.
macro_rules! close_codes {
    ($(#[$enum:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal $word:literal $reason:literal,)* }) => {
        $(#[$enum])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub fn code(self) -> u16 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }

            /// The name in the contract.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The reason that is sent with the code.
            pub fn reason(self) -> &'static str {
                match self {
                    $(Self::$variant => $reason,)*
                }
            }
        }
    };
}

pub(crate) use close_codes;
