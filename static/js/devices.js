// The devices: who has them comes with the stream, their readings by the clock.
import { follow } from "./live_part.js";

follow("devices", { everyMs: 5000 });
