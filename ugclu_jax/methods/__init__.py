"""The references that UG-CLU is compared with, one file each, all under the contract of `ugclu_jax.types.Method`."""
