# SPDX-License-Identifier: Apache-2.0
"""Speeds of the link between the two hosts, by name, and the choice that --links and --modes make."""

LINKS = {"50m": 50 * 10**6, "100m": 100 * 10**6, "200m": 200 * 10**6, "500m": 500 * 10**6, "1g": 10**9, "5g": 5 * 10**9, "unshaped": None}


def chosen(wanted, there):
    """Those of `there` that were asked for (None: all), in their order."""
    return [name for name in there if not wanted or name in wanted]
