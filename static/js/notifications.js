// The list of notifications is fetched again when one arrives.
import { follow } from "./live_part.js";

follow("notifications");
