//! EC2 and STS: moto_server behind a proxy that adds what it lacks.
