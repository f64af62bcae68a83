//! What goes wrong on demand: rules that a request is held against before it is answered.
