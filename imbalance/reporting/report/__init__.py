"""The report: one HTML file in which people explore runs, without a server or a network.

Files are read into exhibits (`exhibits`), each exhibit becomes the plain data that its page shows
(`curves`, `choices`, `classes`, `makers`, `pictures`), and `page` puts all of it into one file.
"""
