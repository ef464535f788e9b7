"""Does the promise still hold? Watches the p-values of judged parts, with a stated rate of false alarms."""
