"""Pure decisions: what is judged, limited, priced and scheduled. Time and chance are arguments."""
