variable "project" {
  description = "The Google Cloud project that pays."
  type        = string
}

variable "zone" {
  description = "Where the VM is; e2 machines are everywhere."
  type        = string
  default     = "europe-west1-b"

  validation {
    condition     = length(split("-", var.zone)) == 3
    error_message = "A zone has three parts, such as europe-west1-b."
  }
}

variable "name" {
  description = "What the VM, its network, its account and the outpost are called."
  type        = string
  default     = "outpost-vm"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "6 to 30 lower-case letters, digits and dashes, a letter first: what an account may be called."
  }
}

variable "machine_type" {
  description = "How large it is. For most agents 2 GiB of memory each are enough; what they build and test counts more."
  type        = string
  default     = "e2-standard-4"
}

variable "image" {
  description = "An image with cloud-init. Google's Ubuntu images have it; its Debian images need not."
  type        = string
  default     = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
}

variable "disk_gib" {
  description = "The disk for caches of repositories (20 GiB by default) and workspaces, in GiB."
  type        = number
  default     = 50
}

variable "labels" {
  description = "Labels of the VM and its disk, to find them on the bill."
  type        = map(string)
  default     = { purpose = "outpost" }
}

variable "external_address" {
  description = "Whether the VM has an address of its own. If not it is reached through Identity-Aware Proxy, with gcloud."
  type        = bool
  default     = true
}

variable "ssh_from" {
  description = "From where port 22 is reached, such as [\"203.0.113.7/32\"]. With Identity-Aware Proxy that is known."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.ssh_from : can(cidrhost(range, 0)) && !endswith(range, "/0")])
    error_message = "Ranges such as 203.0.113.7/32 or 198.51.100.0/24, and not the whole world."
  }
}

variable "ssh_key" {
  description = "The private key to log in with; only the public one beside it, with .pub, is read."
  type        = string
  default     = "~/.ssh/outpost"
}

variable "max_workers" {
  description = "How many workers the VM is to run at once."
  type        = number
  default     = 4
}

variable "vm_price_hourly" {
  description = "What an hour of the VM costs, in US dollars, of which each worker is charged its share. 0: it runs anyway, workers are free."
  type        = number
  default     = 0
}
