# One VM at Google Cloud for workers of Outpost, reached over SSH.
#
#   terraform init
#   terraform apply -var project=my-project -var 'ssh_from=["203.0.113.7/32"]'
#
# It prints the command that makes the VM an outpost, and the one that shows its host key's
# fingerprint, to compare the two.

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = local.region
  zone    = var.zone
}

locals {
  region = join("-", slice(split("-", var.zone), 0, 2))

  # Where Google's Identity-Aware Proxy connects from.
  ssh_from = var.external_address ? var.ssh_from : ["35.235.240.0/20"]

  placeholder = "ssh-ed25519 REPLACE-THIS-BY-YOUR-PUBLIC-KEY"
  public_key  = trimspace(file(pathexpand("${var.ssh_key}.pub")))
}

# Whatever runs on the VM can get a token of its account. This one has no role, and a scope that
# says who it is and nothing more; without a scope the VM would have no account at all.
resource "google_service_account" "worker" {
  account_id   = var.name
  display_name = "Workers of Outpost: no roles, on purpose"
}

# A network of its own: the one called "default" as a rule lets all the world in at port 22.
resource "google_compute_network" "workers" {
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "workers" {
  name          = var.name
  network       = google_compute_network.workers.id
  ip_cidr_range = "10.77.0.0/24"
}

resource "google_compute_instance" "worker" {
  name         = var.name
  machine_type = var.machine_type
  labels       = var.labels

  boot_disk {
    initialize_params {
      image  = var.image
      size   = var.disk_gib
      type   = "pd-balanced"
      labels = var.labels
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.workers.id

    # An address of its own, another one after each stop; without it nothing reaches it from outside.
    dynamic "access_config" {
      for_each = var.external_address ? ["ephemeral"] : []
      content {}
    }
  }

  service_account {
    email  = google_service_account.worker.email
    scopes = ["userinfo-email"]
  }

  shielded_instance_config {
    enable_secure_boot = true
  }

  # A stop for maintenance would end the workers.
  scheduling {
    on_host_maintenance = "MIGRATE"
    automatic_restart   = true
  }

  # Only the user and the key of cloud-init.yaml get in: no keys of the project, no accounts of it.
  metadata = {
    block-project-ssh-keys = "TRUE"
    enable-oslogin         = "FALSE"
    user-data = replace(
      file("${path.module}/cloud-init.yaml"), local.placeholder, local.public_key
    )
  }
}

resource "google_compute_firewall" "ssh" {
  name                    = "${var.name}-ssh"
  network                 = google_compute_network.workers.id
  source_ranges           = local.ssh_from
  target_service_accounts = [google_service_account.worker.email]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }

  lifecycle {
    precondition {
      condition     = length(local.ssh_from) > 0
      error_message = "Say from where you connect, such as ssh_from = [\"203.0.113.7/32\"]: without ranges everybody may."
    }
  }
}

# Without an address of its own it goes out through these: to fetch, to push, to the model.
resource "google_compute_router" "way_out" {
  count   = var.external_address ? 0 : 1
  name    = "${var.name}-way-out"
  network = google_compute_network.workers.id
}

resource "google_compute_router_nat" "way_out" {
  count                              = var.external_address ? 0 : 1
  name                               = "${var.name}-way-out"
  router                             = google_compute_router.way_out[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}
