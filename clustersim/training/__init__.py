"""What training costs, in closed form on the serving side's cost model: a step, its best layout, a whole run."""
