"""Every figure that the README states; each module prints ours beside what it is compared with."""
