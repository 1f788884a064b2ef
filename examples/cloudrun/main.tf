# A Cloud Run service for workers of Outpost, and all that it needs, in a project that has nothing.
#
#   terraform init
#   terraform apply -var project=my-project -target google_artifact_registry_repository.workers
#   (build the worker image and push it to what `terraform output -raw image` prints)
#   terraform apply -var project=my-project
#
# It prints the command that makes the service an outpost.

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.5, < 4.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

locals {
  services = [
    "artifactregistry.googleapis.com",
    "iamcredentials.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
  ]

  image = join("/", [
    "${var.region}-docker.pkg.dev", var.project, var.name, "worker:${var.image_tag}",
  ])
}

resource "google_project_service" "needed" {
  for_each           = toset(local.services)
  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "workers" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  depends_on    = [google_project_service.needed]
}

# Whom workers act as. It may read the secrets below and nothing else.
resource "google_service_account" "worker" {
  account_id   = "${var.name}-worker"
  display_name = "Workers of Outpost"
}

# As whom controllers call the service. It may call it and nothing else.
resource "google_service_account" "caller" {
  account_id   = "${var.name}-caller"
  display_name = "Callers of Outpost"
}

resource "google_service_account_iam_member" "controllers" {
  for_each           = toset(var.controllers)
  service_account_id = google_service_account.caller.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# The token that workers' servers ask for, besides Google's own: it is in Terraform's state, too.
resource "random_password" "token" {
  length  = 48
  special = false
}

resource "google_secret_manager_secret" "token" {
  secret_id  = "outpost-token"
  depends_on = [google_project_service.needed]

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "token" {
  secret      = google_secret_manager_secret.token.id
  secret_data = random_password.token.result
}

resource "google_secret_manager_secret_iam_member" "token" {
  for_each = merge(
    { worker = google_service_account.worker.member },
    { for who in var.controllers : who => who },
  )
  secret_id = google_secret_manager_secret.token.id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

resource "google_secret_manager_secret_iam_member" "others" {
  for_each  = var.secrets
  secret_id = split(":", each.value)[0]
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.worker.member
}

# What `outpost deploy` makes, setting by setting. Use one or the other for a service.
resource "google_cloud_run_v2_service" "worker" {
  name                = var.name
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  deletion_protection = false
  depends_on          = [google_secret_manager_secret_iam_member.token]

  template {
    service_account                  = google_service_account.worker.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    timeout                          = "3600s"
    max_instance_request_concurrency = 1
    session_affinity                 = true

    scaling {
      min_instance_count = 0
      max_instance_count = var.max_workers
    }

    containers {
      image = local.image

      # Requests and answers go on at the same time: that takes HTTP/2 up to the container.
      ports {
        name           = "h2c"
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = var.cpu
          memory = var.memory
        }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = {
          OUTPOST_SERVE_LEASE       = "120"
          OUTPOST_SERVE_GRACE       = "9"
          OUTPOST_SERVE_MAX_WORKERS = "1"
        }
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = merge(var.secrets, { OUTPOST_SERVE_TOKEN = "outpost-token:latest" })
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = split(":", env.value)[0]
              version = split(":", env.value)[1]
            }
          }
        }
      }
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "caller" {
  name     = google_cloud_run_v2_service.worker.name
  location = google_cloud_run_v2_service.worker.location
  role     = "roles/run.invoker"
  member   = google_service_account.caller.member
}

# They look at the service themselves, to see whether it is well.
resource "google_cloud_run_v2_service_iam_member" "controllers" {
  for_each = toset(var.controllers)
  name     = google_cloud_run_v2_service.worker.name
  location = google_cloud_run_v2_service.worker.location
  role     = "roles/run.viewer"
  member   = each.value
}
