# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/run: what is started, measured, and written down."""
