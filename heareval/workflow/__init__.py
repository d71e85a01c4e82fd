"""The corridor: Luigi steps that say what depends on what and call the plain functions of the rooms.

The output of a step is a folder whose name contains its fingerprint, or a published folder or file whose
manifest contains it. `complete()` looks at nothing else.
"""

from heareval.workflow.configuration import check_config_files

# Luigi reads its configuration when it is imported, as the modules of this package do.
check_config_files()
