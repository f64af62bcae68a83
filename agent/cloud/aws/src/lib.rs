//! Amazon EC2 as a cloud: a fleet request of type instant for each launch, membership by tag, terminations verified by listing.
