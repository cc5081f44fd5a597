//! Definitions of pools: validated, stored, applied, in this order.
