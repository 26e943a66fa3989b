//! What a proxy is measured with. So far the answering server, [`origin`].

pub mod origin;
