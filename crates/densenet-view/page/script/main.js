// Starts the page: a DenseNet, or any other graph.
import { doc } from "./data.js";
import { startNetwork } from "./network.js";
import { startGraph } from "./graph.js";

if (doc.kind === "graph") startGraph();
else startNetwork();
document.documentElement.dataset.ready = "true";
