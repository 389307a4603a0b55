"""One migration as a page to look at: a single HTML file without anything from elsewhere. No I/O but its own template.

    model    what is drawn, as numbers       page    the template filled with it

The input is the ServiceMigration as the API server has it, and what clients have witnessed, where somebody measured.
"""
