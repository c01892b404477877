// What every page knows of the fleet.
import { createContext, useContext } from "react";
import type { Problem } from "./api";

export interface Fleet {
  name: string;
  control_region: string;
  regions: string[];
  max_chain_length: number;
  budget: Record<string, number>;
}

export interface Status {
  may: Record<string, boolean>;
  problem: Problem | null;
  warning: Problem | null;
  snapshot: { id: string; created_at: string } | null;
  fleet: Fleet | null;
}

export interface Ready extends Status {
  snapshot: { id: string; created_at: string };
  fleet: Fleet;
  reload: () => void;
}

export const StatusContext = createContext<Ready | null>(null);

export function useStatus(): Ready {
  const status = useContext(StatusContext);
  if (!status) throw new Error("outside of the pages");
  return status;
}
