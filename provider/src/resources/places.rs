//! The blocks of the three clouds, as pools and fleets write them.

use tfplug::{Attribute, Block, Type};

use crate::convert::{DATA_DISK_GIB, DISK_GIB, types_of};

/// Whose block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A pool's nodes: a change is made by replacing them one after another.
    Pool,
    /// A fleet's lead: one instance with a disk that outlives it.
    Lead,
}

/// `aws`, `gcp` and `azure`.
pub(super) fn blocks(of: Of) -> [Block; 3] {
    [aws(of), gcp(of), azure(of)]
}

fn aws(of: Of) -> Block {
    let own = [
        place("region", of, "The region, such as `us-east-1`."),
        Attribute::list("subnets", Type::String)
            .required()
            .description(
                "Subnets of one VPC, `subnet-...`, in the order they are tried; each is one zone.",
            ),
        types(of, "aws", "g4dn.xlarge", "m7i.large"),
        text("image", "The AMI, `ami-...`."),
        opt_text(
            "instance_profile",
            match of {
                Of::Pool => {
                    "The instance profile's name or ARN. Nodes need none: they prove who they are without permissions. \
                             Default: none."
                }
                Of::Lead => {
                    "The instance profile's name or ARN: with its permissions the lead launches the pools' nodes \
                             and tags its own instance (the guide *Clouds* lists them). Without one the image has to \
                             bring credentials."
                }
            },
        ),
        Attribute::list("security_groups", Type::String)
            .optional()
            .description("Security groups, `sg-...`. Default: the VPC's default group."),
        public_address(of),
        disk("root_disk_gib", "The root disk in GiB, 8 to 16384."),
        tags("tags", "Tags beside gpuloom's own."),
        endpoint("EC2's calls"),
        agent(),
    ];
    block("aws", "EC2 instances of one region.", of, own)
}

fn gcp(of: Of) -> Block {
    let own = [
        place("project", of, "The project's id."),
        place("region", of, "The region, such as `us-central1`."),
        Attribute::list("zones", Type::String)
            .optional()
            .description("Zones of the region in the order they are tried. Default: any that has the machine."),
        types(of, "gcp", "g2-standard-4", "e2-standard-2"),
        text(
            "image",
            "The image: `projects/P/global/images/I`, or `projects/P/global/images/family/F`.",
        ),
        opt_text("network", "The network's name or path. Default: that of the subnetwork, or `default`."),
        opt_text("subnetwork", "The subnetwork's name or path."),
        opt_text(
            "service_account",
            match of {
                Of::Pool => "The service account's e-mail address. A node needs one to prove who it is; it needs no roles. \
                             Default: none.",
                Of::Lead => "The service account's e-mail address: with its roles the lead launches the pools' nodes and \
                             labels its own instance (the guide *Clouds* lists them). Without one the image has to \
                             bring credentials.",
            },
        ),
        public_address(of),
        disk("boot_disk_gib", "The boot disk in GiB, 8 to 16384."),
        tags(
            "labels",
            "Labels beside gpuloom's own: lower-case letters, digits, `-` and `_`.",
        ),
        endpoint("Compute Engine's calls"),
        agent(),
    ];
    block("gcp", "Compute Engine instances of one region.", of, own)
}

fn azure(of: Of) -> Block {
    let own = [
        place("subscription", of, "The subscription's id."),
        place(
            "resource_group",
            of,
            "The resource group that holds everything that is made. It exists already.",
        ),
        place("location", of, "The location, such as `eastus`."),
        Attribute::list("zones", Type::String)
            .optional()
            .description("`1`, `2`, `3` in the order they are tried. Default: no zone is pinned."),
        types(of, "azure", "Standard_NC4as_T4_v3", "Standard_D2s_v5"),
        text(
            "image",
            "The image's ARM id, or `publisher:offer:sku:version`.",
        ),
        text("subnet_id", "The subnet's ARM id."),
        opt_text(
            "identity",
            match of {
                Of::Pool => {
                    "The ARM id of a user-assigned identity. Nodes need none. Default: none."
                }
                Of::Lead => {
                    "The ARM id of a user-assigned identity: with its roles the lead launches the pools' nodes and \
                             labels its own instance (the guide *Clouds* lists them). Without one the image has to \
                             bring credentials."
                }
            },
        ),
        text(
            "ssh_public_key",
            "An SSH public key on one line: Azure refuses Linux machines without one. gpuloom never uses it.",
        ),
        public_address(of),
        disk("os_disk_gib", "The OS disk in GiB, 8 to 16384."),
        tags("tags", "Tags beside gpuloom's own."),
        endpoint("Resource Manager's calls"),
        agent(),
    ];
    block("azure", "Virtual machines of one location.", of, own)
}

fn block(name: &str, what: &str, of: Of, own: impl IntoIterator<Item = Attribute>) -> Block {
    let own = own.into_iter();
    match of {
        Of::Pool => Block::single(name, own).description(format!(
            "{what} The lead launches them with its own permissions. A change replaces the nodes, at most \
             `update.max_unavailable` at a time, except where it replaces the pool."
        )),
        Of::Lead => Block::single(name, own.chain(lead())).description(format!(
            "{what} The lead is one of them. A change replaces the instance and attaches its data disk to the new one: \
             the queue, the policies and the running jobs stay, except where it replaces the fleet. Credentials are \
             those of the cloud's own tools (environment, files, instance identity) and never part of the \
             configuration."
        )),
    }
}

/// What only a lead has.
fn lead() -> [Attribute; 4] {
    [
        Attribute::string("reachability")
            .optional()
            .default("private")
            .description(
                "Which of its addresses Terraform, people and nodes use. `private`: that of its own network, so \
                 Terraform has to run inside or be connected to it. `public`: an address from everywhere, which the \
                 instance gets. `dns`: `dns_name`. The lead answers on port 7443.",
            ),
        Attribute::string("dns_name")
            .optional()
            .description("With `reachability = \"dns\"`: the name that somebody points at the lead, without a port."),
        Attribute::number("data_disk_gib")
            .optional()
            .default(DATA_DISK_GIB)
            .requires_replace()
            .description(
                "The disk with the lead's store in GiB, 10 to 16384. It outlives the instance, and the next one gets \
                 it. A change replaces the fleet.",
            ),
        Attribute::bool("keep_disk").optional().default(false).description(
            "Destroying the fleet leaves its data disk, and a fleet of the same name and admin key takes it up again.",
        ),
    ]
}

fn place(name: &str, of: Of, text: &str) -> Attribute {
    let of = match of {
        Of::Pool => "pool",
        Of::Lead => "fleet",
    };
    Attribute::string(name)
        .required()
        .requires_replace()
        .description(format!("{text} A change replaces the {of}."))
}

fn text(name: &str, text: &str) -> Attribute {
    Attribute::string(name).required().description(text)
}

fn opt_text(name: &str, text: &str) -> Attribute {
    Attribute::string(name).optional().description(text)
}

fn types(of: Of, kind: &str, node: &str, lead: &str) -> Attribute {
    let types = Attribute::list(types_of(kind), Type::String);
    match of {
        Of::Pool => types.optional().description(format!(
            "Instance types in the order they are tried, such as `{node}`; each has to have exactly the GPUs of `gpu`. \
             Default: any that has them, cheapest first."
        )),
        Of::Lead => types.required().description(format!(
            "Instance types in the order they are tried, such as `{lead}`. A lead needs no GPU, two processors and \
             4 GiB of memory."
        )),
    }
}

fn public_address(of: Of) -> Attribute {
    let more = match of {
        Of::Pool => "",
        Of::Lead => " With `reachability = \"public\"` it gets one in any case.",
    };
    Attribute::bool("public_address")
        .optional()
        .default(false)
        .description(format!("Gives it an address from everywhere, too.{more}"))
}

fn disk(name: &str, text: &str) -> Attribute {
    Attribute::number(name)
        .optional()
        .default(DISK_GIB)
        .description(text)
}

fn tags(name: &str, text: &str) -> Attribute {
    Attribute::map(name, Type::String)
        .optional()
        .description(text)
}

fn endpoint(calls: &str) -> Attribute {
    Attribute::string("endpoint").optional().description(format!(
        "A private endpoint for all of {calls}, such as `https://10.0.0.5`. Default: the cloud's own."
    ))
}

fn agent() -> Attribute {
    Attribute::object(
        "agent",
        [
            Attribute::string("url").required().description(
                "Where the instance downloads the package when it first starts, `https://...`.",
            ),
            Attribute::string("sha256").required().description(
                "The package's SHA-256, 64 lower-case hexadecimal digits; another one is refused.",
            ),
        ],
    )
    .optional()
    .description("The agent's package. Default: the image holds the agent.")
}
