//! What a run leaves behind: one [`record`] of everything, and the forms it is given out in.
//!
//! [`text`] is for a person, [`json`] the record itself, [`csv`] the tables (ledger, intervals,
//! packets), [`hgrm`] the histogram for plotters, and [`store`] the folder of a run that they lie in.

pub mod record;
