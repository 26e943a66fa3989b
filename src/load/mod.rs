//! What a proxy is measured with. So far the answering server, [`origin`], and a client that [`send`]s it one message.

pub mod origin;
pub mod send;
